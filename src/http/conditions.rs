//! Conditional requests: RFC 9110 §13, for content whose tag is its digest.

use http::HeaderMap;
use http::header::{IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};

/// Whether the client already has it: `If-None-Match` names the tag.
///
/// Distribution also takes the bare digest, without quotes, so both are taken.
pub(super) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    lists(headers, IF_NONE_MATCH, etag)
}

/// Whether `If-Match` is there and names something else.
pub(super) fn is_other(headers: &HeaderMap, etag: &str) -> bool {
    headers.contains_key(IF_MATCH) && !lists(headers, IF_MATCH, etag)
}

/// The `Range` to honour: none where `If-Range` names something else.
pub(super) fn range<'a>(headers: &'a HeaderMap, etag: &str) -> Option<&'a str> {
    let same = |value: &http::HeaderValue| value.to_str().is_ok_and(|value| value.trim() == etag);
    if headers.get(IF_RANGE).is_some_and(|value| !same(value)) {
        return None;
    }
    // Text that is not even ASCII is a malformed range, not none.
    let range = headers.get(RANGE)?;
    Some(range.to_str().unwrap_or("malformed"))
}

fn lists(headers: &HeaderMap, name: http::HeaderName, etag: &str) -> bool {
    let values = headers.get_all(name);
    values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| {
            value.split(',').map(str::trim).any(|tag| {
                let tag = tag.strip_prefix("W/").unwrap_or(tag);
                tag == "*" || tag == etag || tag == etag.trim_matches('"')
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: http::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn a_client_that_has_it_says_so_in_many_ways() {
        let etag = "\"sha256:aa\"";
        for (value, known) in [
            ("\"sha256:aa\"", true),
            ("sha256:aa", true),
            ("W/\"sha256:aa\"", true),
            ("\"x\", \"sha256:aa\"", true),
            ("*", true),
            ("\"sha256:bb\"", false),
            ("", false),
        ] {
            assert_eq!(
                is_known(&headers(IF_NONE_MATCH, value), etag),
                known,
                "{value}"
            );
            assert_eq!(is_other(&headers(IF_MATCH, value), etag), !known, "{value}");
        }
        assert!(!is_known(&HeaderMap::new(), etag) && !is_other(&HeaderMap::new(), etag));
    }

    #[test]
    fn a_range_of_something_else_is_not_honoured() {
        let etag = "\"sha256:aa\"";
        let mut map = headers(RANGE, "bytes=1-2");
        assert_eq!(range(&map, etag), Some("bytes=1-2"));
        map.insert(IF_RANGE, "\"sha256:aa\"".parse().unwrap());
        assert_eq!(range(&map, etag), Some("bytes=1-2"));
        map.insert(IF_RANGE, "\"sha256:bb\"".parse().unwrap());
        assert_eq!(range(&map, etag), None);
    }
}
