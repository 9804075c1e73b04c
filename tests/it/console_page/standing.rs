//! How larder stands: what was saved, the disk, what would go next, the upstreams; and what is told
//! where there is nothing yet.

use serde_json::{Value, json};

use super::{assert_content, visit};
use crate::support::hub::{Fault, Hub, What, Where};
use crate::support::image::Image;
use crate::support::programs::{Browser, Larder, Options};
use crate::support::until::until;

async fn pull(larder: &Larder, image: &Image) {
    let manifest = larder.get("/v2/library/app/manifests/1").await;
    assert_eq!(manifest.status, 200);
    for (digest, _) in image.blobs() {
        let path = format!("/v2/library/app/blobs/{digest}");
        assert_eq!(larder.get(&path).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_saved_what_the_disk_holds_and_what_would_go_next_are_told() {
    let hub = Hub::start().await;
    let image = Image::random(1, &[400_000, 50_000]);
    hub.push("library/app", "1", &image);
    let options = Options::mirror_of(&hub).set(&["cache", "maxsize"], json!("1GB"));
    let larder = options.start().await;
    for _ in 0..3 {
        pull(&larder, &image).await;
    }
    until("what would go is known", async || {
        let next = larder.get("/api/v1/evictions").await.json();
        next["next"][0].is_object()
    })
    .await;
    let browser = Browser::start().await;
    visit(&browser, &larder, "#/").await;
    // A manifest, a config and two layers; what is served from memory and disk is not fetched.
    browser.shows("served 3.0 times").await;
    browser.shows("8 from the disk").await;
    browser.shows("4 fetched").await;
    let saved = browser.text(".hero").await;
    let kilobytes: f64 = saved.trim_end_matches(" kB").parse().expect(&saved);
    assert!((900.0..930.0).contains(&kilobytes), "{saved}");
    // Over time: what was served stands higher than what was fetched, and says how much.
    browser.finds(".chart rect.served").await;
    let heights = "const of = (kind) => Math.max(...[...document.querySelectorAll(`.chart rect.${kind}`)].map((one) => Number(one.getAttribute('height'))));
        return of('served') > 2 * of('fetched') && of('fetched') > 0";
    assert_eq!(browser.run(heights).await, true);
    let read = "const plot = document.querySelector('.plot'); plot.focus();
        plot.dispatchEvent(new KeyboardEvent('keydown', { key: 'End' }));
        return plot.getAttribute('aria-valuetext')";
    let told = browser.run(read).await;
    let told = told.as_str().expect("a text").replace('\u{a0}', " ");
    assert!(told.contains("MB served, 45"), "{told}");

    for words in ["mirrored images", "at most 1.00 GB", "never evicted"] {
        browser.shows(words).await;
    }
    let line = browser.text(".evictions li").await;
    assert!(
        line.contains("docker.io/library/app:1") && line.contains("45"),
        "{line}"
    );
    assert!(line.contains("last used just now"), "{line}");
    browser.click(".evictions a").await;
    browser.shows("How it was made").await;

    // The same image, pushed: what both have is counted once, and nothing comes free by the mirror.
    larder.push("team/app", "1", &image).await;
    visit(&browser, &larder, "#/image/docker.io/library/app:1").await;
    browser.shows("0 B of it nowhere else").await;
    visit(&browser, &larder, "#/images/docker.io/library/app").await;
    browser.shows("0 B of its own").await;
    assert_content(&browser).await;
    drop(browser);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_shows_how_it_is_and_what_it_still_allows_and_a_stale_tag_that_it_is() {
    let hub = Hub::start().await;
    hub.push("library/app", "1", &Image::random(2, &[4000]));
    let told = |name, value: &str| What::OtherHeader(name, value.to_owned());
    let tells = Fault::on(Where::manifests());
    let tells = tells.does(told("ratelimit-limit", "100;w=21600"));
    hub.fault(tells.does(told("ratelimit-remaining", "76;w=21600")));
    let larder = Options::mirror_of(&hub).never_fresh().start().await;
    let browser = Browser::start().await;
    visit(&browser, &larder, "#/upstreams").await;
    browser.shows("not asked yet").await;
    let manifest = "/v2/library/app/manifests/1";
    assert_eq!(larder.get(manifest).await.cache(), "miss");
    visit(&browser, &larder, "#/upstreams").await;
    browser.shows("answers").await;
    browser.shows("76 of 100 pulls left, 76 %, seen").await;

    hub.down().await;
    assert_eq!(larder.get(manifest).await.cache(), "stale");
    visit(&browser, &larder, "#/upstreams").await;
    browser.finds(".card.bad .reason").await;
    browser.shows("does not answer").await;
    visit(&browser, &larder, "#/images/docker.io/library/app").await;
    browser.finds(".tags .badge.warn").await;
    browser.shows("stale").await;
    assert_content(&browser).await;
    drop(browser);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_nothing_yet_the_page_says_how_it_begins() {
    let (larder, browser) = (Options::registry().start().await, Browser::start().await);
    let push = format!("docker push {}/team/app", larder.address());
    for (view, words) in [
        ("#/", ["Push a first image", push.as_str()]),
        ("#/images", ["Nothing is here yet", "How it begins"]),
        ("#/upstreams", ["No upstreams", "mirrors nothing"]),
        (
            "#/images/none/such",
            ["This is not here", "there is no repository"],
        ),
        ("#/else", ["This is not here", "no such view"]),
    ] {
        visit(&browser, &larder, view).await;
        for words in words {
            browser.shows(words).await;
        }
        // Nobody is asked who he is, and where nothing is mirrored, nothing comes from anywhere.
        let offered = browser.text("#account").await;
        let ahead = "return document.querySelector(\"[aria-label^='Fetch an image ahead']\")";
        assert_eq!(
            (offered.as_str(), browser.run(ahead).await),
            ("", Value::Null)
        );
        assert!(
            !browser.text("main").await.contains("docker pull"),
            "{view}"
        );
    }
    visit(&browser, &larder, "#/").await;
    let counted = "const disk = document.querySelector('.amounts')?.parentElement.innerText; return disk && !disk.includes('Still counting')";
    browser.until(counted).await;
    let hub = Hub::start().await;
    let mirror = Options::mirror_of(&hub).start().await;
    visit(&browser, &mirror, "#/").await;
    browser.shows("It comes from Docker Hub, and stays").await;
    let pull = format!("docker pull {}/alpine", mirror.address());
    browser.shows(&pull).await;
    visit(&browser, &mirror, "#/setup").await;
    browser
        .shows("an address that this machine alone reaches")
        .await;
    drop(browser);
    mirror.finish().await;
    larder.finish().await;
}
