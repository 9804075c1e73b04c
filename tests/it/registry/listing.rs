//! Lists of repositories and tags: complete, in order, page by page.

use serde_json::{Value, json};

use super::{assert_refused, push_small};
use crate::support::programs::{Answer, Larder, Options};

/// Distribution's order: component by component, a repository before those below it.
const NAMES: [&str; 8] = ["a", "a/b", "a/b/c", "a-b", "a.b/c", "b", "ba", "team/app"];

async fn with_repositories() -> Larder {
    let larder = Options::registry().start().await;
    for name in ["team/app", "ba", "a-b", "b", "a/b/c", "a.b/c", "a", "a/b"] {
        push_small(&larder, name, "v1", "{}").await;
    }
    larder
}

/// Where the `Link` leads: a path of this registry, nothing else.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link");
    if link.is_empty() {
        return None;
    }
    let path = link
        .strip_prefix('<')
        .and_then(|link| link.strip_suffix(">; rel=\"next\""));
    let path = path.unwrap_or_else(|| panic!("{link}"));
    assert!(path.starts_with("/v2/"), "{link}");
    Some(path.to_owned())
}

/// Follows the links from `path` on, and gathers what is listed under `key`.
async fn follow(larder: &Larder, path: &str, key: &str, size: usize) -> Vec<Value> {
    let (mut path, mut all) = (Some(path.to_owned()), Vec::new());
    while let Some(page) = path {
        let answer = larder.get(&page).await;
        assert_eq!(answer.status, 200, "{page}: {answer:?}");
        let listed = answer.json()[key].as_array().cloned().expect("a list");
        assert!(listed.len() <= size, "{page}: {listed:?}");
        all.extend(listed);
        path = next(&answer);
    }
    all
}

#[tokio::test]
async fn the_catalog_is_complete_and_in_order_whatever_the_page() {
    let larder = with_repositories().await;
    let whole = larder.get("/v2/_catalog").await;
    assert_eq!(
        (whole.status, whole.json()),
        (200, json!({ "repositories": NAMES }))
    );
    assert_eq!(
        (whole.header("content-type"), next(&whole)),
        ("application/json", None)
    );
    assert!(whole.body.ends_with(b"\n"));
    for size in 1..=9 {
        let all = follow(
            &larder,
            &format!("/v2/_catalog?n={size}"),
            "repositories",
            size,
        )
        .await;
        assert_eq!(json!(all), json!(NAMES), "pages of {size}");
    }
    let first = larder.get("/v2/_catalog?n=2&ns=&foo=bar").await;
    assert_eq!(next(&first).as_deref(), Some("/v2/_catalog?last=a%2Fb&n=2"));
    larder.finish().await;
}

#[tokio::test]
async fn the_catalog_goes_on_after_any_name_there_or_not() {
    let larder = with_repositories().await;
    for (last, rest) in [
        ("", &NAMES[..]),
        ("a", &NAMES[1..]),
        ("a/a", &NAMES[1..]),
        ("a/b", &NAMES[2..]),
        ("a/b/", &NAMES[2..]),
        ("a/zzz", &NAMES[3..]),
        ("a-a", &NAMES[3..]),
        ("%00", &NAMES[..]),
        ("a%00", &NAMES[3..]),
        ("%FF", &[]),
        ("b", &NAMES[6..]),
        ("zzz", &[]),
        ("../../etc", &NAMES[..]),
        ("%F0%9F%90%B3", &[]),
    ] {
        let answer = larder.get(&format!("/v2/_catalog?last={last}")).await;
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({ "repositories": rest })),
            "{last}"
        );
    }
    larder.finish().await;
}

#[tokio::test]
async fn a_page_has_a_sensible_size_or_is_refused() {
    let larder = with_repositories().await;
    push_small(&larder, "a", "v2", "{}").await;
    for n in [
        "abc",
        "-1",
        "",
        "1.5",
        "0x10",
        "+3",
        "99999999999999999999999999",
        "%00",
        "%2B1",
    ] {
        for list in ["/v2/_catalog", "/v2/a/tags/list"] {
            let refused = larder.get(&format!("{list}?n={n}")).await;
            assert_refused(&refused, 400, "PAGINATION_NUMBER_INVALID");
        }
    }
    let nothing = larder.get("/v2/_catalog?n=0").await;
    assert_eq!(
        (nothing.json(), next(&nothing)),
        (json!({"repositories": []}), None)
    );
    assert_eq!(larder.get("/v2/_catalog?n=1000").await.status, 200);
    for n in [
        "1001",
        "2147483648",
        "9223372036854775808",
        "18446744073709551615",
    ] {
        let refused = larder.get(&format!("/v2/_catalog?n={n}")).await;
        assert_refused(&refused, 400, "PAGINATION_NUMBER_INVALID");
        // Tags are cut to what is given at most instead.
        let tags = larder.get(&format!("/v2/a/tags/list?n={n}")).await;
        assert_eq!(
            (tags.status, tags.json()["tags"].clone()),
            (200, json!(["v1", "v2"]))
        );
    }
    // Of a repeated parameter, the first counts.
    let twice = larder.get("/v2/_catalog?n=1&n=5").await;
    assert_eq!(twice.json(), json!({"repositories": ["a"]}));
    larder.finish().await;
}

#[tokio::test]
async fn the_largest_page_is_the_configurations() {
    let larder = Options::registry();
    let larder = larder.set(&["catalog"], json!({"maxentries": 3}));
    let larder = larder.set(&["tags"], json!({"maxtags": 2})).start().await;
    for name in ["a", "b", "c", "d"] {
        push_small(&larder, name, "v1", "{}").await;
    }
    for tag in ["v2", "v3", "v4", "v5"] {
        push_small(&larder, "a", tag, "{}").await;
    }
    let page = larder.get("/v2/_catalog").await;
    assert_eq!(page.json(), json!({"repositories": ["a", "b", "c"]}));
    assert_eq!(next(&page).as_deref(), Some("/v2/_catalog?last=c&n=3"));
    assert_refused(
        &larder.get("/v2/_catalog?n=4").await,
        400,
        "PAGINATION_NUMBER_INVALID",
    );
    let page = larder.get("/v2/a/tags/list?n=10").await;
    assert_eq!(page.json()["tags"], json!(["v1", "v2"]));
    assert_eq!(next(&page).as_deref(), Some("/v2/a/tags/list?last=v2&n=2"));
    larder.finish().await;
}

#[tokio::test]
async fn tags_are_complete_and_in_order_whatever_the_page() {
    let larder = Options::registry().start().await;
    let tags = ["1.0", "1.0-rc", "10", "Z", "_", "a", "a.b", "latest", "v1"];
    for tag in ["latest", "a.b", "_", "10", "1.0", "v1", "Z", "a", "1.0-rc"] {
        push_small(&larder, "team/app", tag, "{}").await;
    }
    let whole = larder.get("/v2/team/app/tags/list").await;
    assert_eq!(whole.json(), json!({"name": "team/app", "tags": tags}));
    assert_eq!(
        (whole.header("content-type"), next(&whole)),
        ("application/json", None)
    );
    for size in 1..=10 {
        let all = follow(
            &larder,
            &format!("/v2/team/app/tags/list?n={size}"),
            "tags",
            size,
        )
        .await;
        assert_eq!(json!(all), json!(tags), "pages of {size}");
    }
    for (last, rest) in [
        ("", &tags[..]),
        ("1.0", &tags[1..]),
        ("Zebra", &tags[4..]),
        ("zz", &[]),
    ] {
        let after = larder
            .get(&format!("/v2/team/app/tags/list?last={last}"))
            .await;
        assert_eq!(after.json()["tags"], json!(rest), "{last}");
    }
    let first = larder.get("/v2/team/app/tags/list?n=1").await;
    assert_eq!(
        next(&first).as_deref(),
        Some("/v2/team/app/tags/list?last=1.0&n=1")
    );
    let none = larder.get("/v2/team/app/tags/list?n=0").await;
    assert_eq!(
        (none.status, none.json()["tags"].clone(), next(&none)),
        (200, json!([]), None)
    );
    larder.finish().await;
}

#[tokio::test]
async fn a_repository_without_tags_has_an_empty_list() {
    let larder = Options::registry().start().await;
    let manifest = push_small(&larder, "tagged", "v1", "{}").await;
    larder.push_blob("digests/only", b"{}").await;
    let digest = crate::support::image::sha256(&manifest);
    let pushed = larder
        .put_manifest("digests/only", &digest, super::OCI_MANIFEST, manifest)
        .await;
    assert_eq!(pushed.status, 201, "{pushed:?}");
    let tags = larder.get("/v2/digests/only/tags/list").await;
    assert_eq!(
        (tags.status, tags.json()),
        (200, json!({"name": "digests/only", "tags": []}))
    );
    for unknown in ["never", "digests", "digests/only/below"] {
        let refused = larder.get(&format!("/v2/{unknown}/tags/list")).await;
        assert_refused(&refused, 404, "NAME_UNKNOWN");
    }
    let catalog = larder.get("/v2/_catalog").await;
    assert_eq!(
        catalog.json(),
        json!({"repositories": ["digests/only", "tagged"]})
    );
    larder.finish().await;
}

#[tokio::test]
async fn an_empty_registry_has_an_empty_catalog() {
    let larder = Options::registry().start().await;
    let catalog = larder.get("/v2/_catalog").await;
    assert_eq!(
        (catalog.status, catalog.json()),
        (200, json!({"repositories": []}))
    );
    larder.finish().await;
}
