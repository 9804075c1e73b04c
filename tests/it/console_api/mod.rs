//! The page's files and its JSON, asked for as a browser and as a program ask.

mod acting;
mod documented;
mod following;
mod looking;
mod page;
mod scale;

use serde_json::Value;

use crate::support::programs::{Answer, Larder};

/// What the API says; a panic if it refuses.
async fn api(larder: &Larder, path: &str) -> Value {
    let answer = larder.get(&format!("/api/v1/{path}")).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store");
    answer.json()
}

/// Does something.
async fn act(larder: &Larder, method: &str, path: &str) -> Answer {
    let request = larder.request(method, &format!("/api/v1/{path}"));
    larder.send(request.header("x-larder-action", "1")).await
}

/// Pulls an image by tag as a client does: manifests for all platforms, and blobs.
async fn pull(larder: &Larder, name: &str, tag: &str, image: &crate::support::image::Image) {
    let path = format!("/v2/{name}/manifests/{tag}");
    assert_eq!(larder.get(&path).await.status, 200, "{path}");
    for child in image.children() {
        let path = format!("/v2/{name}/manifests/{}", child.digest());
        assert_eq!(larder.get(&path).await.status, 200, "{path}");
    }
    for (digest, bytes) in image.blobs() {
        let blob = larder.get(&format!("/v2/{name}/blobs/{digest}")).await;
        assert_eq!(blob.body, bytes);
    }
}
