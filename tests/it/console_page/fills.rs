//! What is being fetched, live.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{assert_content, crowd, visit};
use crate::support::hub::{Fault, Hub, What, Where};
use crate::support::image::Image;
use crate::support::programs::{Browser, Larder, Options};

/// So many clients fetch the layer of an image at once.
fn clients(larder: &Arc<Larder>, image: &Image, count: usize) -> JoinSet<()> {
    let digest = image.layer_digests().remove(0);
    let path = format!("/v2/library/app/blobs/{digest}");
    let mut clients = JoinSet::new();
    for _ in 0..count {
        let (larder, path) = (Arc::clone(larder), path.clone());
        clients.spawn(async move {
            let blob = larder.get(&path).await;
            assert_eq!((blob.status, blob.complete), (200, true));
        });
    }
    clients
}

/// A larder whose upstream sends so many bytes in a second.
async fn slow(image: &Image, rate: u64) -> (Hub, Arc<Larder>) {
    let hub = Hub::start().await;
    hub.push("library/app", "1", image);
    hub.fault(Fault::on(Where::blobs()).does(What::Rate(rate)));
    let larder = Options::mirror_of(&hub).start().await;
    (hub, Arc::new(larder))
}

async fn finish(larder: Arc<Larder>) {
    let larder = Arc::into_inner(larder).expect("all clients are gone");
    larder.finish().await;
}

/// In each frame: how far the bar shows, in thousandths.
const WATCH: &str = "
window.shown = [];
const look = () => {
  const bar = document.querySelector('.fill .bar > span');
  const scale = bar && /scaleX\\(([\\d.e-]+)\\)/.exec(bar.style.transform);
  if (scale) window.shown.push(Math.round(scale[1] * 1000));
  requestAnimationFrame(look);
};
look();
";

#[tokio::test(flavor = "multi_thread")]
async fn a_running_fill_moves_with_its_speed_its_clients_and_what_is_left() {
    let image = Image::random(1, &[2_000_000]);
    let (_hub, larder) = slow(&image, 500_000).await;
    let browser = Browser::start().await;
    visit(&browser, &larder, "#/").await;
    browser.shows("Nothing is being fetched").await;
    browser.run(WATCH).await;
    let clients = clients(&larder, &image, 3);
    browser.shows("docker.io/library/app").await;
    browser.shows("3 clients, one download").await;
    browser.shows("s left").await;
    let says = "return /kB\\/s|MB\\/s/.test(document.querySelector('.pace').innerText)";
    browser.until(says).await;
    let role = "return document.querySelector('.fill [role=progressbar]').getAttribute('aria-valuenow') > 30";
    browser.until(role).await;
    // Those who are being answered, each with what it has got.
    browser
        .until("return document.querySelectorAll('.pull').length === 3")
        .await;
    clients.join_all().await;
    browser.shows("Nothing is being fetched").await;
    browser.shows("No client is being answered").await;

    let shown = browser.run("return window.shown").await;
    let shown: Vec<i64> = serde_json::from_value(shown).expect("numbers");
    assert!(shown.is_sorted(), "it went back: {shown:?}");
    let mut places = shown.clone();
    places.dedup();
    // Four seconds are eight states; a bar that jumped from one to the next would have eight places.
    assert!(places.len() > 30, "it jumped: {places:?}");
    assert_content(&browser).await;
    drop(browser);
    finish(larder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watching_thirty_clients_join_one_fill_is_smooth() {
    let browser = Browser::start().await;
    let mut longest = Vec::new();
    // The machine may be busy with something else for a moment, but not each time.
    for seed in 0..3 {
        let image = Image::random(seed, &[1_500_000]);
        let (_hub, larder) = slow(&image, 500_000).await;
        visit(&browser, &larder, "#/").await;
        browser.shows("Nothing is being fetched").await;
        browser
            .run(
                "window.long = [];
                 new PerformanceObserver((list) => window.long.push(...list.getEntries().map((one) => one.duration)))
                   .observe({ type: 'longtask' })",
            )
            .await;
        let clients = clients(&larder, &image, 30);
        browser.shows("30 clients, one download").await;
        browser
            .until("return document.querySelectorAll('.pull').length === 30")
            .await;
        clients.join_all().await;
        browser.shows("Nothing is being fetched").await;
        longest = serde_json::from_value::<Vec<f64>>(browser.run("return window.long").await)
            .expect("milliseconds");
        finish(larder).await;
        longest.retain(|long| *long > 50.0 * crowd());
        if longest.is_empty() {
            break;
        }
    }
    assert!(
        longest.is_empty(),
        "something kept the page busy for more than 50 ms: {longest:?}"
    );
    assert_content(&browser).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_reduced_motion_the_bar_goes_where_it_is_at_once() {
    let image = Image::random(3, &[1_500_000]);
    let (_hub, larder) = slow(&image, 500_000).await;
    let browser = Browser::start().await;
    let still = serde_json::json!({ "features": [{ "name": "prefers-reduced-motion", "value": "reduce" }] });
    browser.tool("Emulation.setEmulatedMedia", still).await;
    visit(&browser, &larder, "#/").await;
    browser.shows("Nothing is being fetched").await;
    browser.run(WATCH).await;
    clients(&larder, &image, 1).join_all().await;
    browser.shows("Nothing is being fetched").await;
    let shown = browser.run("return [...new Set(window.shown)]").await;
    let places = shown.as_array().map_or(0, Vec::len);
    assert!((1..=12).contains(&places), "{shown}");
    assert_content(&browser).await;
    drop(browser);
    finish(larder).await;
}
