//! Asking larder, and what holds for each of its answers, whatever was asked.

use reqwest::RequestBuilder;
use serde_json::Value;

use super::{OCI_INDEX, OCI_MANIFEST};
use crate::support::programs::{Answer, Larder};

/// The codes of the specification, "Error Codes".
const CODES: [&str; 14] = [
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DENIED",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "TOOMANYREQUESTS",
    "UNAUTHORIZED",
    "UNSUPPORTED",
];

/// Distribution's codes for what the specification has none for: its clients know them.
const CODES_OF_DISTRIBUTION: [&str; 3] =
    ["PAGINATION_NUMBER_INVALID", "RANGE_INVALID", "TAG_INVALID"];

/// The most that all warnings of an answer may take together, in bytes.
const WARNINGS: usize = 4096;

/// Sends a request. Its answer is whole and in form, and nothing failed inside.
pub(super) async fn ask(larder: &Larder, request: RequestBuilder) -> Answer {
    let answer = larder.send(request).await;
    assert!(answer.complete && answer.status < 500, "{answer:?}");
    let length = answer.header("content-length").parse().unwrap_or(0);
    let is_head = answer.body.is_empty() && length > 0;
    assert!(is_head || answer.body.len() == length, "{answer:?}");
    if answer.status >= 400 && !is_head {
        assert_error_body(&answer);
    }
    assert_warnings(&answer);
    answer
}

/// "Error Codes": the form of the body, and the codes that there are.
#[track_caller]
fn assert_error_body(answer: &Answer) {
    let text = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.header("content-type"), "application/json", "{text}");
    let body = answer.json();
    let errors = body["errors"].as_array().expect("a list of errors");
    assert!(!errors.is_empty(), "{text}");
    for error in errors {
        let code = error["code"].as_str().unwrap_or_default();
        let known = CODES.contains(&code) || CODES_OF_DISTRIBUTION.contains(&code);
        assert!(known && error["message"].is_string(), "{text}");
    }
}

/// "Warnings": `299 - "text"`, without a date, and not too many.
#[track_caller]
fn assert_warnings(answer: &Answer) {
    let warnings: Vec<_> = answer.headers.get_all("warning").iter().collect();
    let total: usize = warnings.iter().map(|value| value.len()).sum();
    assert!(total <= WARNINGS, "{warnings:?}");
    for warning in warnings {
        let text = warning.to_str().expect("a readable warning");
        let quoted = text
            .strip_prefix("299 - \"")
            .and_then(|rest| rest.strip_suffix('"'));
        let quoted = quoted.unwrap_or_else(|| panic!("not a warning: {text}"));
        let unescaped = quoted.replace("\\\\", "").replace("\\\"", "");
        assert!(
            !unescaped.contains(['"', '\\']),
            "a warning with more behind it: {text}"
        );
    }
}

/// A refusal, with one of these codes.
#[track_caller]
pub(super) fn assert_refused(answer: &Answer, status: u16, code: &str) {
    let body = String::from_utf8_lossy(&answer.body);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (status, code),
        "{body}"
    );
}

pub(super) async fn get(larder: &Larder, path: &str) -> Answer {
    ask(larder, larder.request("GET", path)).await
}

pub(super) async fn head(larder: &Larder, path: &str) -> Answer {
    let answer = ask(larder, larder.request("HEAD", path)).await;
    assert_eq!(answer.body, b"", "{path}");
    answer
}

pub(super) async fn delete(larder: &Larder, path: &str) -> Answer {
    ask(larder, larder.request("DELETE", path)).await
}

/// GET or HEAD of a manifest, with the types that a client of the OCI takes, a line for each.
pub(super) async fn manifest(larder: &Larder, method: &str, path: &str) -> Answer {
    let request = larder.request(method, path);
    let request = request
        .header("accept", OCI_INDEX)
        .header("accept", OCI_MANIFEST);
    ask(larder, request).await
}

/// Deletes what is there, and sees that it is gone at once.
pub(super) async fn assert_deleted(larder: &Larder, path: &str) {
    let deleted = delete(larder, path).await;
    assert_eq!(deleted.status, 202, "{path}: {deleted:?}");
    assert_eq!(head(larder, path).await.status, 404, "{path}");
    assert_eq!(get(larder, path).await.status, 404, "{path}");
}

/// A blob is there, as it was sent and under the name that was asked for.
pub(super) async fn assert_blob(larder: &Larder, name: &str, digest: &str, bytes: &[u8]) {
    let path = format!("/v2/{name}/blobs/{digest}");
    let (headed, got) = (head(larder, &path).await, get(larder, &path).await);
    for answer in [&headed, &got] {
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(answer.header("content-length"), bytes.len().to_string());
        assert_eq!(answer.header("docker-content-digest"), digest);
    }
    assert!(got.body == bytes, "{path} has other bytes");
}

/// The path of the next page, as a `Link` of RFC 5988 gives it.
pub(super) fn next_page(answer: &Answer) -> Option<String> {
    let link = answer
        .headers
        .get("link")?
        .to_str()
        .expect("a readable link");
    let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
    assert_eq!(parameters, "; rel=\"next\"", "{link}");
    Some(target.to_owned())
}

/// What several pages list, in the order in which they do: the entries of `key`, and how many
/// pages there were.
pub(super) async fn all_pages(larder: &Larder, path: &str, key: &str) -> (Vec<Value>, usize) {
    let (mut listed, mut pages, mut next) = (Vec::new(), 0, Some(path.to_owned()));
    while let Some(path) = next {
        let page = get(larder, &path).await;
        assert_eq!(page.status, 200, "{path}: {page:?}");
        listed.extend(page.json()[key].as_array().expect("a list").clone());
        (pages, next) = (pages + 1, next_page(&page));
        assert!(pages < 1000, "the pages of {path} have no end");
    }
    (listed, pages)
}
