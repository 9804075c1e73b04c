//! What a person can change, and what the page says where he may not.

use serde_json::json;

use super::login::{log_in, protected};
use super::{assert_content, visit};
use crate::support::hub::{Fault, Hub, What, Where};
use crate::support::image::Image;
use crate::support::programs::{Browser, Htpasswd, Key, Options};

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_fetched_ahead_and_its_progress_shows() {
    let hub = Hub::start().await;
    hub.push("library/app", "1", &Image::random(1, &[1_000_000]));
    hub.fault(Fault::on(Where::blobs()).does(What::Rate(600_000)));
    let (larder, browser) = (
        Options::mirror_of(&hub).start().await,
        Browser::start().await,
    );
    visit(&browser, &larder, "#/images").await;
    browser.shows("Nothing is here yet").await;
    browser
        .click("button[aria-label='Fetch an image ahead']")
        .await;
    browser.write("#warm-image", "app:1").await;
    browser.press(Key::Enter).await;
    let moves = "const bar = document.querySelector('.warm[data-state=running] .bar > span');
        const scale = Number(/scaleX\\((.*)\\)/.exec(bar?.style.transform)?.[1]);
        return scale > 0.1 && scale < 1";
    browser.until(moves).await;
    browser.finds(".warm[data-state=done]").await;
    browser
        .finds(".repos a[href$='docker.io/library/app']")
        .await;

    // One that is not there fails where everybody sees it.
    browser
        .click("button[aria-label='Fetch an image ahead']")
        .await;
    browser.write("#warm-image", "nothing:1").await;
    browser.press(Key::Enter).await;
    browser.finds(".warm[data-state=failed]").await;
    browser.shows("failed:").await;
    assert_content(&browser).await;
    drop(browser);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_is_deleted_once_it_has_been_said_what_goes() {
    let (larder, browser) = (Options::registry().start().await, Browser::start().await);
    for tag in ["1", "2"] {
        larder
            .push("team/app", tag, &Image::random(1, &[4000]))
            .await;
    }
    visit(&browser, &larder, "#/images/team/app").await;
    let button = "button[aria-label='Delete the tag team/app:1']";
    browser.click(button).await;
    browser.shows("Delete this tag?").await;
    let said = browser.text("dialog").await;
    assert!(said.contains("team/app:1"), "{said}");
    assert!(said.contains("This can’t be undone"), "{said}");
    // The first answer is the harmless one.
    let focused = browser.run("return document.activeElement.innerText").await;
    assert_eq!(focused, "Keep it");
    browser.press(Key::Enter).await;
    browser
        .until("return !document.querySelector('dialog')")
        .await;
    assert_eq!(larder.head("/v2/team/app/manifests/1").await.status, 200);

    browser.click(button).await;
    browser.click("dialog .danger").await;
    browser.shows("team/app:1 is deleted").await;
    browser
        .until("return document.querySelectorAll('.tags tbody tr').length === 1")
        .await;
    assert_eq!(larder.head("/v2/team/app/manifests/1").await.status, 404);
    assert_eq!(larder.head("/v2/team/app/manifests/2").await.status, 200);
    assert_content(&browser).await;
    drop(browser);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_a_button_says_so_and_so_does_a_refusal() {
    let users = Htpasswd::new(&[("anna", "anna's"), ("bob", "bob's")]);
    let larder = protected(Options::registry(), &users).start().await;
    let push = Image::random(1, &[4000]);
    for (_, bytes) in push.blobs() {
        let digest = crate::support::image::sha256(&bytes);
        let path = format!("/v2/team/app/blobs/uploads/?digest={digest}");
        let post = larder.request("POST", &path).body(bytes);
        let post = post.basic_auth("anna", Some("anna's"));
        assert_eq!(larder.send(post).await.status, 201);
    }
    let put = larder.request("PUT", "/v2/team/app/manifests/1");
    let put = put.basic_auth("anna", Some("anna's"));
    let put = put.header("content-type", push.media_type());
    let put = larder.send(put.body(push.manifest_bytes())).await;
    assert_eq!(put.status, 201, "{put:?}");

    let browser = Browser::start().await;
    visit(&browser, &larder, "#/images/team/app").await;
    log_in(&browser, "bob", "bob's").await;
    let button = "button[aria-label^='Delete the tag team/app:1']";
    browser
        .finds(&format!("{button}[aria-disabled=true]"))
        .await;
    browser.click(button).await;
    browser.shows("bob may not delete here").await;
    assert_eq!(
        browser
            .run("return !!document.querySelector('dialog')")
            .await,
        false
    );

    // A right may go while somebody looks: then the server's own words show.
    browser.complaints().await;
    let enable = "for (const one of document.querySelectorAll('.acts button')) one.removeAttribute('aria-disabled')";
    browser.run(enable).await;
    browser.click(button).await;
    browser.click("dialog .danger").await;
    browser.shows("Refused: ").await;
    let complaints = browser.complaints().await;
    assert!(
        complaints.iter().all(|line| line.contains("403")),
        "{complaints:?}"
    );
    let there = larder.request("HEAD", "/v2/team/app/manifests/1");
    let there = there.basic_auth("anna", Some("anna's"));
    assert_eq!(larder.send(there).await.status, 200);
    drop(browser);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirrored_tag_is_pinned_and_held_and_let_go() {
    let hub = Hub::start().await;
    hub.push("library/app", "1", &Image::random(1, &[4000]));
    let (larder, browser) = (
        Options::mirror_of(&hub).start().await,
        Browser::start().await,
    );
    assert_eq!(larder.get("/v2/library/app/manifests/1").await.status, 200);
    visit(&browser, &larder, "#/images/docker.io/library/app").await;
    for (press, state) in [("Pin ", "pinned"), ("Hold ", "held")] {
        browser
            .click(&format!("button[aria-label^='{press}']"))
            .await;
        browser.finds(&format!(".tags .badge.{state}")).await;
    }
    for (press, state) in [("Unpin ", "pinned"), ("Let ", "held")] {
        browser
            .click(&format!("button[aria-label^='{press}']"))
            .await;
        let gone = format!(
            "return document.querySelector('.tags tbody tr') && !document.querySelector('.tags .badge.{state}')"
        );
        browser.until(&gone).await;
    }
    assert_content(&browser).await;
    drop(browser);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_configuration_holds_is_not_let_go_from_the_page() {
    let hub = Hub::start().await;
    hub.push("library/app", "1", &Image::random(1, &[4000]));
    let options = Options::mirror_of(&hub).set(&["cache", "pin"], json!(["app:*"]));
    let (larder, browser) = (options.start().await, Browser::start().await);
    assert_eq!(larder.get("/v2/library/app/manifests/1").await.status, 200);
    visit(&browser, &larder, "#/images/docker.io/library/app").await;
    browser.click("button[aria-label^='Unpin ']").await;
    browser.finds(".toast.bad").await;
    browser.finds(".tags .badge.pinned").await;
    let complaints = browser.complaints().await;
    assert!(
        complaints.iter().all(|line| line.contains("409")),
        "{complaints:?}"
    );
    drop(browser);
    larder.finish().await;
}
