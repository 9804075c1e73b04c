//! A connection that breaks, and comes back.

use super::visit;
use crate::support::image::Image;
use crate::support::programs::{Browser, Options};

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_shows_and_comes_back_by_itself() {
    let (mut larder, browser) = (Options::registry().start().await, Browser::start().await);
    larder
        .push("team/app", "1", &Image::random(1, &[4000]))
        .await;
    visit(&browser, &larder, "#/images/team/app").await;
    browser.finds("#link[data-state=live]").await;
    larder.kill().await;
    browser.finds("#link[data-state=lost]").await;
    browser.finds("#banner:not([hidden])").await;
    browser.shows("Trying again in").await;
    // What was known stays to be read.
    assert!(browser.text(".tags").await.contains("amd64"));

    larder.start_again().await;
    larder
        .push("team/app", "2", &Image::random(1, &[4000]))
        .await;
    browser.finds("#link[data-state=live]").await;
    browser.shows("Connected again").await;
    browser
        .until("return document.getElementById('banner').hidden")
        .await;
    browser
        .until("return document.querySelectorAll('.tags tbody tr').length === 2")
        .await;
    drop(browser);
    larder.finish().await;
}
