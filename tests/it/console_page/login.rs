//! Who is asking: the page's own form, and where the password stays.

use serde_json::json;

use super::visit;
use crate::support::programs::{Browser, Htpasswd, Options};

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
    // The browser itself complains about each 401, and about nothing else.
    let complaints = browser.complaints().await;
    assert!(
        complaints.iter().all(|line| line.contains("401")),
        "{complaints:?}"
    );
    drop(browser);
    larder.finish().await;
}
