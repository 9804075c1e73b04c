//! Pictures of the page. They are made by each run, and kept in `docs/images/` when
//! `LARDER_PICTURES` is set: `LARDER_PICTURES=1 make test NAME=console_page::pictures`.
//!
//! They are as good as the machine's fonts: those in the repository were made with Debian's
//! `fonts-inter` and `fonts-jetbrains-mono`.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use tokio::task::JoinSet;

use super::visit;
use crate::support::hub::{Fault, Hub, What, Where};
use crate::support::image::Image;
use crate::support::programs::{Browser, Larder, Options};

const MOST_BYTES: u64 = 200_000;

/// A larder in the middle of a day: some images are here, one is being fetched for a class.
async fn busy() -> (Hub, Hub, Arc<Larder>, JoinSet<()>) {
    let (docker, github) = (Hub::start().await, Hub::start().await);
    let image = |seed: u64, sizes: &[usize]| {
        let child = |seed| Image::random(seed, sizes);
        Image::index(vec![(child(seed), "amd64"), (child(seed + 1000), "arm64")])
    };
    let names = [
        "alpine", "debian", "golang", "nginx", "node", "postgres", "python", "redis",
    ];
    let mut images = Vec::new();
    for (seed, name) in (0..).zip(names) {
        for (more, tag) in (0..).zip(["latest", "3.12", "3.12-slim"]) {
            let sizes = [400_000 + 70_000 * more, 90_000, 20_000];
            let image = image(seed * 10 + more as u64, &sizes);
            docker.push(&format!("library/{name}"), tag, &image);
            images.push((name, tag, image));
        }
    }
    github.push("astral-sh/uv", "0.9", &image(900, &[300_000, 40_000]));
    let class = Image::random(77, &[9_000_000, 4_000_000, 2_500_000]);
    docker.push("library/rust", "1.91", &class);
    let options = Options::mirror_of(&docker).upstream("ghcr.io", &github);
    let options = options.set(&["cache", "maxsize"], json!("1GB"));
    let larder = Arc::new(options.start().await);
    for name in ["team/api", "team/web"] {
        for tag in ["1.0", "1.1"] {
            larder.push(name, tag, &Image::random(40, &[250_000])).await;
        }
    }
    // What a morning of pulls leaves behind.
    let mut clients = JoinSet::new();
    for (name, tag, image) in images.into_iter().skip(2) {
        let (larder, path) = (Arc::clone(&larder), format!("/v2/library/{name}"));
        clients.spawn(async move {
            let child = &image.children()[0];
            larder.get(&format!("{path}/manifests/{tag}")).await;
            let digest = child.digest();
            for _ in 0..9 {
                larder.get(&format!("{path}/manifests/{digest}")).await;
                for (digest, _) in child.blobs() {
                    larder.get(&format!("{path}/blobs/{digest}")).await;
                }
            }
        });
    }
    clients.join_all().await;
    docker.fault(Fault::on(Where::blobs()).does(What::Rate(300_000)));
    let mut clients = JoinSet::new();
    for (at, digest) in class.layer_digests().into_iter().enumerate() {
        for _ in 0..12 - 3 * at {
            let (larder, path) = (
                Arc::clone(&larder),
                format!("/v2/library/rust/blobs/{digest}"),
            );
            clients.spawn(async move {
                larder.get(&path).await;
            });
        }
    }
    (docker, github, larder, clients)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pictures_of_the_page_are_small_enough_to_keep() {
    let (docker, _github, larder, clients) = busy().await;
    let browser = Browser::start().await;
    let made = tempfile::tempdir().expect("a directory");
    let python = "#/image/docker.io/library/python:3.12";
    let shots = [
        ("now-light", "#/", ".fill", 1280, 900, "light"),
        ("now-dark", "#/", ".fill", 1280, 900, "dark"),
        ("now-phone", "#/", ".fill", 360, 740, "light"),
        (
            "images-light",
            "#/images/docker.io/library/python",
            ".tags tbody tr",
            1280,
            700,
            "light",
        ),
        ("image-dark", python, ".steps li", 1280, 820, "dark"),
    ];
    for (name, view, complete, width, height, colours) in shots {
        browser.look(width, height, colours).await;
        visit(&browser, &larder, view).await;
        browser.finds(complete).await;
        if complete == ".fill" {
            let moves = "return [...document.querySelectorAll('.fill .pace')].some((one) => /[1-9].*B/.test(one.innerText))";
            browser.until(moves).await;
        }
        let file = made.path().join(format!("{name}.png"));
        browser.picture(&file).await;
        let size = std::fs::metadata(&file).expect("a picture").len();
        assert!(
            (5000..MOST_BYTES).contains(&size),
            "{name} has {size} bytes"
        );
        if env::var_os("LARDER_PICTURES").is_some() {
            let kept = kept();
            std::fs::create_dir_all(&kept).expect("a directory");
            std::fs::copy(&file, kept.join(format!("{name}.png"))).expect("a copy");
        }
    }
    drop(browser);
    docker.heal_all();
    clients.join_all().await;
    let larder = Arc::into_inner(larder).expect("all clients are gone");
    larder.finish().await;
}

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images")
}
