//! Who is asking: the page's own form, and where the password stays.

use std::path::Path;

use serde_json::json;

use super::visit;
use crate::support::image::Image;
use crate::support::programs::{Browser, Htpasswd, Larder, Options};
use crate::support::signer::Kind;
use crate::support::token_service::{ISSUER, SERVICE, TokenService};

/// Everybody with a password may pull what the team has; Anna may do everything with it.
pub(super) fn protected(options: Options, users: &Htpasswd) -> Options {
    let htpasswd = json!({ "realm": "the larder", "path": users.path() });
    let rules = json!([
        { "who": ["anna"], "may": ["pull", "push", "delete"], "names": ["team/*", "docker.io/*"] },
        { "who": "*", "may": ["pull"], "names": ["team/*"] },
    ]);
    options
        .set(&["auth", "htpasswd"], htpasswd)
        .set(&["auth", "rules"], rules)
}

/// Fills in the form that the page shows.
pub(super) async fn log_in(browser: &Browser, user: &str, password: &str) {
    browser.write("#user", user).await;
    browser.write("#password", password).await;
    browser.click("form.login button[type=submit]").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_401_leads_to_the_form_and_the_form_back_to_where_one_was() {
    let users = Htpasswd::new(&[("anna", "anna's"), ("bob", "bob's")]);
    let larder = protected(Options::registry(), &users).start().await;
    let browser = Browser::start().await;
    visit(&browser, &larder, "#/upstreams").await;
    browser.finds("form.login").await;
    log_in(&browser, "anna", "guessed").await;
    browser
        .shows("The server did not take that name and password")
        .await;
    let kept = browser.run("return sessionStorage.length").await;
    assert_eq!(kept, 0, "a wrong password is forgotten");
    browser
        .run("document.querySelector('form.login').reset()")
        .await;
    log_in(&browser, "anna", "anna's").await;
    browser
        .until("return location.hash === '#/upstreams'")
        .await;
    browser.shows("Log out").await;
    browser.finds("#link[data-state=live]").await;

    // For this tab, and nowhere else.
    let places = "return [Object.keys(sessionStorage).join(), Object.keys(localStorage).join(), document.cookie]";
    assert_eq!(browser.run(places).await, json!(["larder.login", "", ""]));
    browser.open(&format!("{}/#/images", larder.url())).await;
    browser.finds(".view.images").await;
    browser
        .run("[...document.querySelectorAll('#account button')].at(-1).click()")
        .await;
    browser.finds("form.login").await;
    assert_eq!(browser.run("return sessionStorage.length").await, 0);
    assert_only_refused(&browser).await;
    drop(browser);
    larder.finish().await;
}

/// The browser itself complains about each 401, and about nothing else.
async fn assert_only_refused(browser: &Browser) {
    let complaints = browser.complaints().await;
    assert!(
        complaints.iter().all(|line| line.contains("401")),
        "{complaints:?}"
    );
}

/// A larder with two repositories, which believes whose keys are in `keys.json`.
async fn believing(service: &TokenService, home: &Path) -> Larder {
    let (tree, keys) = (home.join("tree"), home.join("keys.json"));
    let open = Options::registry().on(&tree).start().await;
    for (seed, name) in [(1, "team/app"), (2, "secret/app")] {
        open.push(name, "1", &Image::random(seed, &[4000])).await;
    }
    open.finish().await;
    std::fs::write(&keys, service.jwks()).expect("a file");
    let token = json!({
        "realm": service.realm(), "service": SERVICE, "issuer": ISSUER, "jwks": keys,
    });
    let options = Options::registry().on(&tree);
    options.set(&["auth", "token"], token).start().await
}

async fn paste(browser: &Browser, token: &str) {
    browser
        .run("document.getElementById('token').value = ''")
        .await;
    browser.write("#token", token).await;
    browser.click("form.login button[type=submit]").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pasted_token_opens_what_it_says_for_as_long_as_it_is_believed() {
    let (service, other) = (
        TokenService::start(Kind::Es256).await,
        TokenService::start(Kind::Es256).await,
    );
    let home = tempfile::tempdir().expect("a directory");
    let mut larder = believing(&service, home.path()).await;
    let access =
        json!([{ "type": "repository", "name": "team/app", "actions": ["pull", "delete"] }]);
    let of = |service: &TokenService| {
        let key = service.signer().thumbprint();
        service.token(&key, "ann", &access)
    };
    let browser = Browser::start().await;
    visit(&browser, &larder, "#/images").await;
    browser.click("form.login summary").await;
    for (wrong, told) in [
        ("hällo".to_owned(), "That is no token"),
        (of(&other), "The server did not take that token"),
    ] {
        paste(&browser, &wrong).await;
        browser.shows(told).await;
        let kept = browser.run("return sessionStorage.length").await;
        assert_eq!(kept, 0, "what is wrong is forgotten");
    }
    // As it stands in a header.
    paste(&browser, &format!("Bearer {}", of(&service))).await;
    browser.until("return location.hash === '#/images'").await;
    browser.shows("Logged in as ann").await;
    browser.finds("#link[data-state=live]").await;
    browser.finds(".repos a[href='#/images/team/app']").await;
    let listed = browser.text(".repos").await;
    assert!(!listed.contains("secret"), "{listed}");
    let places = "return [Object.keys(sessionStorage).join(), Object.keys(localStorage).join(), document.cookie]";
    assert_eq!(browser.run(places).await, json!(["larder.login", "", ""]));

    browser.click(".repos a[href='#/images/team/app']").await;
    browser
        .click("button[aria-label='Delete the tag team/app:1']")
        .await;
    browser.click("dialog .danger").await;
    browser.shows("team/app:1 is deleted").await;
    assert!(service.asked().is_empty(), "the page asks its server alone");

    // The service has new keys: what was signed with the old ones holds no longer.
    std::fs::write(home.path().join("keys.json"), other.jwks()).expect("a file");
    larder.hang_up().await;
    browser.finds("form.login").await;
    assert_eq!(browser.run("return sessionStorage.length").await, 0);
    assert_only_refused(&browser).await;
    drop(browser);
    larder.finish().await;
}
