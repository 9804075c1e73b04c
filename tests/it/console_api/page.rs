//! What is at `/`, and for whom.

use crate::support::programs::Options;

#[tokio::test(flavor = "multi_thread")]
async fn browsers_get_the_page_and_everybody_else_nothing() {
    let larder = Options::registry().start().await;
    let page = larder.request("GET", "/");
    let page = larder
        .send(page.header("accept", "text/html,*/*;q=0.8"))
        .await;
    assert_eq!(page.status, 200);
    assert!(page.body.starts_with(b"<!doctype html>"));
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    assert_eq!(page.header("vary"), "Accept");
    let policy = page.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'"),
        "{policy}"
    );
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"));
    let again = larder.request("GET", "/").header("accept", "text/html");
    let again = again.header("if-none-match", page.header("etag"));
    let again = larder.send(again).await;
    assert_eq!((again.status, again.body.len()), (304, 0));
    let head = larder.request("HEAD", "/").header("accept", "text/html");
    let head = larder.send(head).await;
    let length = page.body.len().to_string();
    assert_eq!(
        (head.header("content-length"), head.body.len()),
        (length.as_str(), 0)
    );
    for accept in ["*/*", "application/json", ""] {
        let plain = larder.request("GET", "/").header("accept", accept);
        let plain = larder.send(plain).await;
        assert_eq!((plain.status, plain.body.len()), (200, 0), "{accept:?}");
        assert_eq!(plain.header("content-length"), "0");
    }
    assert_eq!(larder.get("/assets/none.js").await.status, 404);
    assert_eq!(larder.get("/assets/..%2Findex.html").await.status, 404);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_prefix_the_page_is_where_its_files_are() {
    let options = Options::registry().set(&["http", "prefix"], "/images/".into());
    let larder = options.start().await;
    for (path, is_page) in [("/images/", true), ("/", false)] {
        let page = larder.request("GET", path).header("accept", "text/html");
        let page = larder.send(page).await;
        assert_eq!(
            (page.status, !page.body.is_empty()),
            (200, is_page),
            "{path}"
        );
    }
    larder.finish().await;
}
