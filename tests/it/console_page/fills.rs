//! What is being fetched, live.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{assert_content, visit};
use crate::support::hub::{Fault, FaultId, Hub, What, Where};
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

/// A larder whose upstream sends half a megabyte in a second, and the last hundred kilobytes not
/// before it is [let](Hub::open): a browser may be slow to see what there is to see.
async fn slow(image: &Image) -> (Hub, FaultId, Arc<Larder>) {
    let hub = Hub::builder().link(500_000).start().await;
    hub.push("library/app", "1", image);
    let digest = image.layer_digests().remove(0);
    let layer = image
        .blobs()
        .into_iter()
        .find(|(named, _)| *named == digest);
    let (_, layer) = layer.expect("its layer");
    let gate = Fault::on(Where::blobs()).does(What::Gate(Some(layer.len() - 100_000)));
    let gate = hub.fault(gate);
    let larder = Options::mirror_of(&hub).start().await;
    (hub, gate, Arc::new(larder))
}

async fn finish(larder: Arc<Larder>) {
    let larder = Arc::into_inner(larder).expect("all clients are gone");
    larder.finish().await;
}

/// In each frame: how far the bar shows, in thousandths. And how often it was told how far it is.
const WATCH: &str = "
window.shown = [];
window.told = 0;
new MutationObserver((seen) => window.told += seen.length)
  .observe(document, { subtree: true, attributeFilter: ['aria-valuenow'] });
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
    let image = Image::random(1, &[2_500_000]);
    let (hub, gate, larder) = slow(&image).await;
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
    hub.open(gate);
    clients.join_all().await;
    browser.shows("Nothing is being fetched").await;
    browser.shows("No client is being answered").await;

    let shown = browser.run("return window.shown").await;
    let shown: Vec<i64> = serde_json::from_value(shown).expect("numbers");
    assert!(shown.is_sorted(), "it went back: {shown:?}");
    let mut places = shown.clone();
    places.dedup();
    // A bar that jumped from one state to the next would have as many places as states.
    let told = browser.run("return window.told").await;
    let told = told.as_u64().and_then(|told| usize::try_from(told).ok());
    let told = told.expect("a number");
    assert!(
        places.len() > told * 2,
        "it jumped {told} times: {places:?}"
    );
    assert_content(&browser).await;
    drop(browser);
    finish(larder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watching_thirty_clients_join_one_fill_is_smooth() {
    // A page that is busy for longer is seen to stutter (<https://www.w3.org/TR/longtasks-1/>).
    const STUTTER: Duration = Duration::from_millis(50);
    let image = Image::random(1, &[1_500_000]);
    let (hub, gate, larder) = slow(&image).await;
    let browser = Browser::start().await;
    visit(&browser, &larder, "#/").await;
    browser.shows("Nothing is being fetched").await;
    browser.run(WATCH).await;
    let before = browser.work().await;
    let clients = clients(&larder, &image, 30);
    browser
        .until(
            "return document.querySelectorAll('.pull').length === 30
               && document.querySelector('.fill')?.textContent.includes('30\u{a0}clients')",
        )
        .await;
    hub.open(gate);
    clients.join_all().await;
    browser
        .until("return document.querySelectorAll('.pull, .fill').length === 0")
        .await;
    // All that the page did, the test's own questions as well, shared out among its frames.
    let work = browser.work().await.saturating_sub(before);
    let frames = browser.run("return window.shown.length").await;
    let frames = frames.as_u64().and_then(|count| u32::try_from(count).ok());
    let each = work / frames.filter(|count| *count > 0).expect("frames");
    println!("each of {frames:?} frames took the page {each:?}");
    assert!(each < STUTTER, "{work:?} for {frames:?}");
    assert_content(&browser).await;
    drop(browser);
    finish(larder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_reduced_motion_the_bar_goes_where_it_is_at_once() {
    let image = Image::random(3, &[1_500_000]);
    let (hub, gate, larder) = slow(&image).await;
    let browser = Browser::start().await;
    let still = serde_json::json!({ "features": [{ "name": "prefers-reduced-motion", "value": "reduce" }] });
    browser.tool("Emulation.setEmulatedMedia", still).await;
    visit(&browser, &larder, "#/").await;
    browser.shows("Nothing is being fetched").await;
    browser.run(WATCH).await;
    let clients = clients(&larder, &image, 1);
    browser.until("return window.told > 1").await;
    hub.open(gate);
    clients.join_all().await;
    browser.shows("Nothing is being fetched").await;
    let shown = browser.run("return [...new Set(window.shown)]").await;
    let places = shown.as_array().map_or(0, Vec::len);
    let told = browser.run("return window.told").await;
    // Where it begins, and where it was told that it is.
    let most = told.as_u64().and_then(|told| usize::try_from(told).ok());
    let most = most.expect("a number") + 1;
    assert!((1..=most).contains(&places), "told {told} times: {shown}");
    assert_content(&browser).await;
    drop(browser);
    finish(larder).await;
}
