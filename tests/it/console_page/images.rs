//! Finding an image, and what the page tells of it.

use serde_json::json;

use super::{assert_content, push_saying, visit};
use crate::support::hub::Hub;
use crate::support::image::Image;
use crate::support::programs::{Browser, Key, Larder, Options};

async fn with_images() -> Larder {
    let larder = Options::registry().start().await;
    for name in ["labs/nginx", "team/api", "team/web", "w3"] {
        for tag in ["1.0", "1.1", "latest"] {
            larder.push(name, tag, &Image::random(5, &[3000])).await;
        }
    }
    larder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slash_leads_to_the_search_and_enter_to_the_image() {
    let (larder, browser) = (with_images().await, Browser::start().await);
    visit(&browser, &larder, "#/").await;
    browser.keys("/").await;
    browser.keys("web:1").await;
    browser
        .until("return document.querySelectorAll('#found [role=option]').length === 2")
        .await;
    browser.press(Key::Down).await;
    browser.press(Key::Down).await;
    let chosen = "return document.getElementById(document.activeElement.getAttribute('aria-activedescendant'))?.innerText.startsWith('team/web:1.1')";
    browser.until(chosen).await;
    browser.press(Key::Enter).await;
    browser
        .until("return location.hash === '#/image/team/web:1.1'")
        .await;
    browser.shows("How it was made").await;
    let command = format!("docker pull {}/team/web:1.1", larder.address());
    browser.shows(&command).await;

    browser.keys("/").await;
    browser.keys("nothing-like-it").await;
    browser.shows("No image is like that").await;
    browser.press(Key::Escape).await;
    browser
        .until("return document.getElementById('found').hidden")
        .await;
    assert_content(&browser).await;
    drop(browser);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_and_tags_are_filtered_as_one_types() {
    let (larder, browser) = (with_images().await, Browser::start().await);
    visit(&browser, &larder, "#/images").await;
    browser
        .until("return document.querySelectorAll('.repos li').length === 4")
        .await;
    browser.write("#filter", "team").await;
    browser
        .until("return document.querySelectorAll('.repos li').length === 2")
        .await;
    browser.click(".repos a[href='#/images/team/api']").await;
    browser
        .until("return document.querySelectorAll('.tags tbody tr').length === 3")
        .await;
    browser.write(".detail input[type=search]", "late").await;
    browser
        .until("return document.querySelectorAll('.tags tbody tr').length === 1")
        .await;
    let row = browser.text(".tags tbody tr").await;
    assert!(row.contains("latest") && row.contains("amd64"), "{row}");
    // What was pushed meanwhile comes by itself.
    let image = Image::random(6, &[3000]);
    larder.push("team/api", "later", &image).await;
    browser
        .until("return document.querySelectorAll('.tags tbody tr').length === 2")
        .await;
    assert_content(&browser).await;
    drop(browser);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_come_first_where_one_asks_for_it_and_stay_so() {
    let (larder, browser) = (with_images().await, Browser::start().await);
    for (seed, name, size) in [(21, "x/large", 90_000), (22, "x/small", 100)] {
        larder.push(name, "1", &Image::random(seed, &[size])).await;
        larder
            .push("team/web", &name[2..], &Image::random(seed, &[size]))
            .await;
    }
    visit(&browser, &larder, "#/images").await;
    let first = |list: &str, name: &str| {
        format!("return document.querySelector('{list}')?.innerText.startsWith('{name}')")
    };
    browser.until(&first(".repos li", "labs/nginx")).await;
    browser.click("#sort option[value=size]").await;
    // It shares its layers with a larger one.
    browser.until(&first(".repos li", "team/web")).await;
    browser
        .until("return document.querySelectorAll('.repos li')[1].innerText.startsWith('x/large')")
        .await;
    browser.click(".repos a[href='#/images/team/web']").await;
    browser.until(&first(".tags tbody tr", "1.0")).await;
    browser.click("#tag-sort option[value=size]").await;
    browser.until(&first(".tags tbody tr", "large")).await;
    // The choice stays with the page.
    browser.click(".repos a[href='#/images/labs/nginx']").await;
    browser
        .until("return location.hash === '#/images/labs/nginx' && document.querySelector('#sort').value === 'size' && document.querySelector('#tag-sort').value === 'size'")
        .await;
    browser.until(&first(".repos li", "team/web")).await;
    assert_content(&browser).await;
    drop(browser);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_shows_what_it_runs_how_it_was_made_and_who_refers_to_it() {
    let (larder, browser) = (Options::registry().start().await, Browser::start().await);
    let config = json!({
        "architecture": "arm64", "os": "linux", "created": "2026-11-02T11:12:13Z", "author": "Ada",
        "config": { "Entrypoint": ["/entry.sh"], "Cmd": ["serve", "-v"], "User": "app", "WorkingDir": "/srv",
            "Env": ["TOKEN=hunter2"], "Labels": { "org.opencontainers.image.source": "https://example.com/code" } },
        "rootfs": { "type": "layers", "diff_ids": [] },
        "history": [
            { "created_by": "/bin/sh -c #(nop) ADD file:1 in / " },
            { "created_by": "/bin/sh -c #(nop)  CMD [\"sh\"]", "empty_layer": true },
            { "created_by": "RUN /bin/sh -c make install # buildkit" },
        ],
    });
    push_saying(&larder, "team/app", "1", &config, &json!({ "who": "me" })).await;
    let of = larder.head("/v2/team/app/manifests/1").await;
    let signature = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.dev.cosign.artifact.sig.v1+json",
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "size": 2, "digest": crate::support::image::sha256(b"{}") },
        "layers": [],
        "subject": { "mediaType": of.header("content-type"), "size": of.header("content-length").parse::<u64>().unwrap(), "digest": of.header("docker-content-digest") },
    });
    larder.push_blob("team/app", b"{}").await;
    let text = signature.to_string();
    let digest = crate::support::image::sha256(text.as_bytes());
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let put = larder
        .put_manifest("team/app", &digest, media_type, text)
        .await;
    assert_eq!(put.status, 201, "{put:?}");

    visit(&browser, &larder, "#/image/team/app:1").await;
    for text in [
        "ADD file:1 in /",
        "CMD [\"sh\"]",
        "RUN make install",
        "2 layers",
        "[\"/entry.sh\"]",
        "[\"serve\",\"-v\"]",
        "linux/arm64",
        "Ada",
        "/srv",
        "TOKEN",
        "https://example.com/code",
        "who",
        "Signature",
        "application/vnd.dev.cosign",
    ] {
        browser.shows(text).await;
    }
    // Variables often hold secrets: their names are enough.
    assert!(!browser.text("body").await.contains("hunter2"));
    browser.click("button[title='Copy the pull command']").await;
    browser.shows("Copied: docker pull").await;
    assert_content(&browser).await;
    drop(browser);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platforms_of_an_index_are_told_apart_by_what_is_here() {
    let hub = Hub::start().await;
    let child = |seed| Image::random(seed, &[4000]);
    let index = Image::index(vec![(child(1), "amd64"), (child(2), "arm64")]);
    hub.push("library/app", "1", &index);
    let (larder, browser) = (
        Options::mirror_of(&hub).start().await,
        Browser::start().await,
    );
    let warm = ["warm", "app:1", "--platform", "linux/amd64"];
    larder.run(&warm).await.expect_success();
    visit(&browser, &larder, "#/images/docker.io/library/app").await;
    browser.finds(".tags .platform.here").await;
    browser.finds(".tags .platform.away").await;
    browser.click(".tags tbody th a").await;
    browser
        .finds(".platform-tabs .here[aria-pressed=true]")
        .await;
    browser.click(".platform-tabs .away").await;
    browser
        .finds(".platform-tabs .away[aria-pressed=true]")
        .await;
    assert_content(&browser).await;
    drop(browser);
    larder.finish().await;
}
