//! The page that browsers get, and its files.
//!
//! Everybody else gets Distribution's empty answer at `/`: load balancers look for it.

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, REFERRER_POLICY, VARY};
use http::header::{CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::console::page::{self, File};
use crate::oci::route::RouteError;

use super::answer::Answer;
use super::asked::Asked;
use super::body::Body;
use super::conditions;
use super::error::Refusal;
use super::handler::Turn;

impl Turn {
    /// What is at `/`.
    pub(super) fn root(&self, asked: &Asked<'_>) -> Answer {
        let reads = is_read(&asked.parts.method);
        // Under a prefix the page is there: what it loads is named relative to it.
        let is_here = self.manners.prefix.is_none() || asked.path != "/";
        let (page, tag) = page::index();
        if reads && is_here && wants_html(&asked.parts.headers) {
            let answer = file(&page, tag, &asked.parts.headers);
            return answer.header(VARY, HeaderValue::from_static("Accept"));
        }
        let no_cache = HeaderValue::from_static("no-cache");
        Answer::empty(StatusCode::OK).header(CACHE_CONTROL, no_cache)
    }
}

/// A file of the page.
pub(super) fn asset(asked: &Asked<'_>, name: &str) -> Result<Answer, Refusal> {
    let (found, tag) = page::asset(name).ok_or(Refusal::Route(RouteError::NotFound))?;
    if !is_read(&asked.parts.method) {
        return Err(Refusal::Method { allow: "GET, HEAD" });
    }
    Ok(file(&found, tag, &asked.parts.headers))
}

fn is_read(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

fn file(file: &File, tag: &'static str, headers: &HeaderMap) -> Answer {
    let answer = if conditions::is_known(headers, tag) {
        Answer::empty(StatusCode::NOT_MODIFIED)
    } else {
        Answer::empty(StatusCode::OK)
            .length(file.text.len() as u64)
            .header(CONTENT_TYPE, HeaderValue::from_static(file.media_type))
            .body(Body::full(file.text))
    };
    // Another version of larder has others: a browser asks each time, which costs it little.
    let policy = page::content_security_policy();
    answer
        .header(ETAG, HeaderValue::from_static(tag))
        .header(CACHE_CONTROL, HeaderValue::from_static("no-cache"))
        .header(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy))
        .header(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
        .header(REFERRER_POLICY, HeaderValue::from_static("no-referrer"))
}

/// Whether somebody looks who names HTML. A registry's client that takes anything does not.
fn wants_html(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT).iter();
    lines.filter_map(|line| line.to_str().ok()).any(|line| {
        let mut types = line.split(',').map(str::trim);
        types.any(|entry| {
            let mut parts = entry.split(';').map(str::trim);
            let is_html = parts
                .next()
                .is_some_and(|it| it.eq_ignore_ascii_case("text/html"));
            is_html && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_names_html_gets_the_page() {
        for (accept, expected) in [
            ("text/html,application/xhtml+xml,*/*;q=0.8", true),
            ("application/json, TEXT/HTML;q=0.5", true),
            ("*/*", false),
            ("text/html;q=0, */*", false),
            ("text/htmlx", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
            assert_eq!(wants_html(&headers), expected, "{accept}");
        }
        assert!(!wants_html(&HeaderMap::new()));
    }
}
