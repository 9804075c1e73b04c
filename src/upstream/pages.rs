//! Lists that come page by page.

use bytes::Bytes;
use http::header::LINK;
use http::{Method, StatusCode};
use url::Url;

use super::client::{Ask, Client, Subject};
use super::error::UpstreamError;
use crate::oci::RepositoryName;

const MAX_PAGES: usize = 1000;
/// Of one page, and of all pages together: a list is held in memory.
const MAX_PAGE_SIZE: usize = 4 * 1024 * 1024;
const MAX_TOTAL_SIZE: usize = 32 * 1024 * 1024;

/// Reads all pages from `url` on, in their order. `what` is listed: "tags".
pub(super) async fn read(
    client: &Client,
    name: &RepositoryName,
    mut url: Url,
    what: &str,
    mut take_in: impl FnMut(Bytes) -> Result<(), UpstreamError>,
) -> Result<(), UpstreamError> {
    let mut size = 0;
    for _ in 0..MAX_PAGES {
        let answer = client
            .ask(&Ask::new(
                Subject::Manifests,
                Method::GET,
                name,
                url.clone(),
            ))
            .await?;
        if answer.status() != StatusCode::OK {
            return Err(UpstreamError::Failed {
                status: answer.status().as_u16(),
            });
        }
        answer.check_content()?;
        let next = answer.headers(LINK).find_map(next_of);
        let next = next.map(|target| follow(&url, target)).transpose()?;
        let body = answer
            .bytes(MAX_PAGE_SIZE, client.transport.timeouts.idle)
            .await?;
        size += body.len();
        if size > MAX_TOTAL_SIZE {
            return Err(UpstreamError::misbehaved(format!(
                "a list of {what} without an end"
            )));
        }
        take_in(body)?;
        match next {
            Some(next) if next != url => url = next,
            _ => return Ok(()),
        }
    }
    Err(UpstreamError::misbehaved(format!(
        "more than {MAX_PAGES} pages of {what}"
    )))
}

/// The target of `<…>; rel="next"`. RFC 8288 §3; registries send nothing but that one link.
fn next_of(link: &str) -> Option<&str> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = |parameter: &str| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        let next = value
            .split_ascii_whitespace()
            .any(|rel| rel.eq_ignore_ascii_case("next"));
        (name.trim().eq_ignore_ascii_case("rel") && next).then_some(())
    };
    parameters.split(';').find_map(is_next).map(|()| target)
}

/// Where the next page is: always at the host that was asked. Behind a proxy, registries get the
/// scheme and port of their own links wrong, so that those are ours.
fn follow(here: &Url, target: &str) -> Result<Url, UpstreamError> {
    let elsewhere = || UpstreamError::misbehaved("the next page of its list is elsewhere");
    let target = here.join(target).map_err(|_| elsewhere())?;
    if target.host() != here.host() {
        return Err(elsewhere());
    }
    let mut next = here.clone();
    next.set_path(target.path());
    next.set_query(target.query());
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found() {
        for (link, target) in [
            (
                r#"</v2/a/tags/list?last=x&n=5>; rel="next""#,
                Some("/v2/a/tags/list?last=x&n=5"),
            ),
            (
                "<https://quay.io/v2/a/tags/list?next_page=b>;rel=next",
                Some("https://quay.io/v2/a/tags/list?next_page=b"),
            ),
            (r#"<x>; title="y"; REL="prev Next""#, Some("x")),
            (r#"<x>; rel="prev""#, None),
            ("<x>", None),
            ("x; rel=next", None),
            ("<x; rel=next", None),
            ("", None),
        ] {
            assert_eq!(next_of(link), target, "{link}");
        }
    }

    #[test]
    fn pages_stay_at_home() {
        let here = Url::parse("https://quay.io/v2/a/tags/list?n=1000").unwrap();
        for (target, next) in [
            (
                "/v2/a/tags/list?last=x",
                Some("https://quay.io/v2/a/tags/list?last=x"),
            ),
            ("?last=x", Some("https://quay.io/v2/a/tags/list?last=x")),
            (
                "http://quay.io:8080/v2/a/tags/list?last=x",
                Some("https://quay.io/v2/a/tags/list?last=x"),
            ),
            ("https://user:pw@quay.io/b", Some("https://quay.io/b")),
            ("https://evil.example.com/v2/a/tags/list?last=x", None),
            ("//evil.example.com/", None),
            ("file:///etc/passwd", None),
        ] {
            assert_eq!(
                follow(&here, target).ok().map(String::from).as_deref(),
                next,
                "{target}"
            );
        }
    }
}
