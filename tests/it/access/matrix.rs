//! Every route, with every method, for everybody who may come, on every class of object.

use larder::oci::route::parse;
use larder::oci::{ApiRoute, Route};
use serde_json::json;

use super::{Identity, USERS, protected, rules};
use crate::support::hub::Hub;
use crate::support::image::{Image, sha256};
use crate::support::programs::{Answer, Htpasswd, Larder, Options};

const METHODS: [&str; 7] = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"];

/// Which row of the matrix a route is in. A new route does not compile without one, and `rows`
/// fails without a request for it.
fn row(route: &Route) -> usize {
    match route {
        Route::Root => 0,
        Route::Base => 1,
        Route::Token { .. } => 2,
        Route::Catalog(_) => 3,
        Route::Tags(..) => 4,
        Route::Manifest(..) => 5,
        Route::Blob(..) => 6,
        Route::Uploads(..) => 7,
        Route::Upload(..) => 8,
        Route::Referrers(..) => 9,
        Route::Metrics => 10,
        Route::Asset(_) => 11,
        Route::Api(route) => 12 + api_row(route),
    }
}

/// The same for the routes of the API.
fn api_row(route: &ApiRoute) -> usize {
    match route {
        ApiRoute::Tags { .. } => 0,
        ApiRoute::Image { .. } => 1,
        ApiRoute::Pin(..) => 2,
        ApiRoute::Hold(..) => 3,
        ApiRoute::State => 4,
        ApiRoute::History(_) => 5,
        ApiRoute::Events => 6,
        ApiRoute::Repositories { .. } => 7,
        ApiRoute::Upstreams => 8,
        ApiRoute::Evictions(_) => 9,
        ApiRoute::Clients => 10,
        ApiRoute::Search { .. } => 11,
        ApiRoute::Warm => 12,
        ApiRoute::Warming(_) => 13,
    }
}

const ROWS: usize = 26;

/// What of the API names no repository: what it shows is decided name by name.
const GENERAL: [&str; 10] = [
    "/api/v1/",
    "/api/v1/history",
    "/api/v1/events",
    "/api/v1/repositories?search=a",
    "/api/v1/upstreams",
    "/api/v1/evictions",
    "/api/v1/clients",
    "/api/v1/search?q=a",
    "/api/v1/warm",
    "/api/v1/warm/some-id",
];

/// What a matrix is tried on.
struct Objects {
    manifest: String,
    blob: String,
    upload: String,
}

impl Objects {
    /// Requests for a repository, one row at least for each route that names one.
    fn paths(&self, name: &str) -> Vec<String> {
        let Self {
            manifest,
            blob,
            upload,
        } = self;
        let missing = sha256(b"nobody has this");
        vec![
            format!("/v2/{name}/tags/list"),
            format!("/v2/{name}/tags/list?n=1"),
            format!("/v2/{name}/manifests/1"),
            format!("/v2/{name}/manifests/none"),
            format!("/v2/{name}/manifests/{manifest}"),
            format!("/v2/{name}/manifests/{manifest}?tag=2&tag=latest"),
            format!("/v2/{name}/blobs/{blob}"),
            format!("/v2/{name}/blobs/{missing}"),
            format!("/v2/{name}/blobs/uploads/"),
            format!("/v2/{name}/blobs/uploads/?digest={blob}"),
            format!("/v2/{name}/blobs/uploads/?mount={blob}&from=bob/own"),
            format!("/v2/{name}/blobs/uploads/?mount={blob}"),
            format!("/v2/{name}/blobs/uploads/{upload}?_state=0"),
            format!("/v2/{name}/blobs/uploads/{upload}?_state=0&digest={blob}"),
            format!("/v2/{name}/referrers/{manifest}"),
        ]
    }
}

/// The same for what of the API names a repository.
fn api_paths(name: &str, manifest: &str) -> Vec<String> {
    let api = "/api/v1";
    vec![
        format!("{api}/tags?repository={name}&tag=1"),
        format!("{api}/image?repository={name}&reference=1"),
        format!("{api}/image?repository={name}&reference={manifest}"),
        format!("{api}/pins?repository={name}&tag=1"),
        format!("{api}/holds?repository={name}&tag=1&digest={manifest}"),
    ]
}

fn rows(paths: &[String]) -> Vec<usize> {
    let route = |path: &String| {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        row(&parse(path, Some(query)).unwrap())
    };
    paths.iter().map(route).collect()
}

async fn send(larder: &Larder, who: Identity, method: &str, path: &str) -> Answer {
    let request = who.request(larder, method, path).body("{}");
    let request = request.header("x-larder-action", "1");
    larder.send(request).await
}

/// The answer without what may differ between two names.
fn shape(answer: &Answer, name: &str) -> (u16, Vec<String>, String) {
    let body = String::from_utf8_lossy(&answer.body).replace(name, "NAME");
    let headers = answer
        .headers
        .iter()
        .filter(|(key, _)| !["date", "content-length"].contains(&key.as_str()))
        .map(|(key, value)| format!("{key}: {value:?}").replace(name, "NAME"));
    (answer.status, headers.collect(), body)
}

/// A registry with an image of Anna's team and one of a mirror, and what they are made of.
async fn stocked(hub: &Hub, users: &Htpasswd) -> (Larder, Image, Objects) {
    let options = protected(Options::mirror_of(hub), users, &[("rules", rules())]);
    let larder = options.never_fresh().start().await;
    let image = Image::random(1, &[3000]).oci();
    hub.push("library/x", "1", &image);
    let anna = Identity::Anna;
    for (digest, bytes) in image.blobs() {
        let path = format!("/v2/team/app/blobs/uploads/?digest={digest}");
        let push = anna.request(&larder, "POST", &path).body(bytes);
        assert_eq!(larder.send(push).await.status, 201);
    }
    let put = anna
        .request(&larder, "PUT", "/v2/team/app/manifests/1")
        .header("content-type", image.media_type())
        .body(image.manifest_bytes());
    assert_eq!(larder.send(put).await.status, 201);
    let blob = image.layer_digests()[0].clone();
    for path in [
        "/v2/library/x/manifests/1".to_owned(),
        format!("/v2/library/x/blobs/{blob}"),
    ] {
        assert_eq!(anna.get(&larder, &path).await.status, 200);
    }
    let started = anna.request(&larder, "POST", "/v2/team/app/blobs/uploads/");
    let started = larder.send(started).await;
    let upload = started.header("docker-upload-uuid").to_owned();
    let manifest = image.digest();
    let objects = Objects {
        manifest,
        blob,
        upload,
    };
    (larder, image, objects)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_or_changes_what_is_not_his() {
    let (hub, users) = (Hub::start().await, Htpasswd::new(&USERS));
    let (larder, image, objects) = stocked(&hub, &users).await;
    hub.clear_log();
    let mut seen = vec![0, 1, 2, 3, 10, 11];
    seen.extend(rows(&GENERAL.map(str::to_owned)));
    for name in ["team/app", "library/x", "docker.io/library/x", "team/none"] {
        let mut paths = objects.paths(name);
        paths.extend(api_paths(name, &objects.manifest));
        seen.extend(rows(&paths));
        for path in &paths {
            for method in METHODS {
                for who in [Identity::Anonymous, Identity::WrongPassword] {
                    let refused = send(&larder, who, method, path).await;
                    let what = format!("{who:?} {method} {path}: {refused:?}");
                    assert_eq!(refused.status, 401, "{what}");
                    let challenge = refused.header("www-authenticate");
                    // To its own page the API says nothing that a browser would ask for.
                    let is_quiet = path.starts_with("/api/") && method != "OPTIONS";
                    let expected = if is_quiet {
                        ""
                    } else {
                        "Basic realm=\"the larder\""
                    };
                    assert_eq!(challenge, expected, "{what}");
                    if method != "HEAD" {
                        assert_eq!(refused.code(), "UNAUTHORIZED", "{what}");
                    }
                }
                if method == "OPTIONS" {
                    continue;
                }
                let refused = send(&larder, Identity::Bob, method, path).await;
                let what = format!("Bob {method} {path}: {refused:?}");
                assert_eq!(refused.status, 403, "{what}");
                assert!(refused.body.len() < 300, "{what}");
                if method != "HEAD" {
                    assert_eq!(refused.code(), "DENIED", "{what}");
                }
            }
        }
    }
    for index in 0..ROWS {
        assert!(seen.contains(&index), "no request for route {index}");
    }
    assert!(
        hub.asked().is_empty(),
        "nobody was asked for who may not ask: {:?}",
        hub.asked()
    );
    // All of it is still there, and the upload where it was.
    for (digest, bytes) in image.blobs() {
        let path = format!("/v2/team/app/blobs/{digest}");
        assert_eq!(Identity::Anna.get(&larder, &path).await.body, bytes);
    }
    let tags = Identity::Anna.get(&larder, "/v2/team/app/tags/list").await;
    assert_eq!(tags.json()["tags"], json!(["1"]));
    let upload = format!("/v2/team/app/blobs/uploads/{}", objects.upload);
    let status = Identity::Anna.get(&larder, &upload).await;
    assert_eq!((status.status, status.header("range")), (204, "0-0"));
    let cancel = Identity::Anna.request(&larder, "DELETE", &upload);
    assert_eq!(larder.send(cancel).await.status, 204);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_is_let_through_on_every_route() {
    let (hub, users) = (Hub::start().await, Htpasswd::new(&USERS));
    let (larder, _, objects) = stocked(&hub, &users).await;
    for name in ["team/app", "library/x", "team/none"] {
        for path in objects.paths(name) {
            for method in METHODS {
                let answer = send(&larder, Identity::Anna, method, &path).await;
                let what = format!("{method} {path}: {answer:?}");
                assert_ne!(answer.status, 401, "{what}");
                // The one 403 is the mirror's: nobody pushes there.
                let reads = ["GET", "HEAD"].contains(&method) && !path.contains("uploads");
                let is_reserved = name == "library/x" && !reads;
                assert!(answer.status != 403 || is_reserved, "{what}");
                assert!(answer.status < 500, "{what}");
            }
        }
    }
    drop(larder);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_exists_looks_like_what_does_not_to_who_may_not_see_it() {
    let (hub, users) = (Hub::start().await, Htpasswd::new(&USERS));
    let (larder, _, objects) = stocked(&hub, &users).await;
    let paths = |name| {
        let api = api_paths(name, &objects.manifest);
        objects.paths(name).into_iter().chain(api)
    };
    for (there, not_there) in paths("team/app").zip(paths("team/non")) {
        for method in METHODS {
            for who in [Identity::Anonymous, Identity::WrongPassword, Identity::Bob] {
                let one = send(&larder, who, method, &there).await;
                let other = send(&larder, who, method, &not_there).await;
                assert_eq!(
                    shape(&one, "team/app"),
                    shape(&other, "team/non"),
                    "{who:?} {method} {there}"
                );
            }
        }
    }
    let cancel = format!("/v2/team/app/blobs/uploads/{}", objects.upload);
    let cancel = Identity::Anna.request(&larder, "DELETE", &cancel);
    assert_eq!(larder.send(cancel).await.status, 204);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_base_the_root_and_the_catalog_know_who_asks() {
    let (hub, users) = (Hub::start().await, Htpasswd::new(&USERS));
    let (larder, _, objects) = stocked(&hub, &users).await;
    let bobs = format!("/v2/bob/own/blobs/uploads/?digest={}", sha256(b"bob"));
    let push = Identity::Bob.request(&larder, "POST", &bobs).body("bob");
    assert_eq!(larder.send(push).await.status, 201);
    for (who, root, base, listed) in [
        (Identity::Anonymous, 200, 401, None),
        (Identity::WrongPassword, 200, 401, None),
        (Identity::Bob, 200, 200, Some(json!([]))),
        (
            Identity::Anna,
            200,
            200,
            Some(json!(["docker.io/library/x", "team/app"])),
        ),
    ] {
        assert_eq!(who.get(&larder, "/").await.status, root, "{who:?}");
        let page = who.request(&larder, "GET", "/");
        let page = larder.send(page.header("accept", "text/html")).await;
        assert!(page.body.starts_with(b"<!doctype html>"), "{who:?}");
        assert_eq!(
            who.get(&larder, "/assets/none").await.status,
            404,
            "{who:?}"
        );
        assert_eq!(who.get(&larder, "/v2/").await.status, base, "{who:?}");
        assert_eq!(who.get(&larder, "/token").await.status, 404, "{who:?}");
        let catalog = who.get(&larder, "/v2/_catalog?n=10").await;
        match listed {
            Some(names) => assert_eq!(catalog.json()["repositories"], names, "{who:?}"),
            None => assert_eq!(catalog.status, 401, "{who:?}"),
        }
    }
    let cancel = format!("/v2/team/app/blobs/uploads/{}", objects.upload);
    let cancel = Identity::Anna.request(&larder, "DELETE", &cancel);
    assert_eq!(larder.send(cancel).await.status, 204);
    larder.finish().await;
}
