//! Names and texts that others chose.

use serde_json::{Value, json};

use super::{assert_content, push_saying, visit};
use crate::support::programs::{Browser, Options};

/// What somebody may have written where a text is expected.
const TEXTS: [&str; 7] = [
    "<img src=x onerror=\"window.hit = 1\">",
    "<script>window.hit = 2</script>",
    "\"><svg onload=window.hit=3>",
    "javascript:window.hit=4",
    "\u{202e}gnp.exe\u{2066} turned",
    "bell\u{7} escape\u{1b}[31m null\u{0} c1\u{9b}",
    "Z\u{351}\u{36b}\u{343}\u{36a}\u{302}\u{36b}\u{33d}\u{34f}\u{334}\u{319}algo",
];

#[tokio::test(flavor = "multi_thread")]
async fn texts_of_an_image_show_as_text_whatever_is_in_them() {
    let (larder, browser) = (Options::registry().start().await, Browser::start().await);
    let labels: serde_json::Map<String, Value> = TEXTS
        .iter()
        .enumerate()
        .map(|(at, text)| (format!("{at} {text}"), json!(text)))
        .collect();
    let mut annotations = labels.clone();
    annotations.insert("org.opencontainers.image.url".to_owned(), json!(TEXTS[3]));
    let history: Vec<Value> = TEXTS
        .iter()
        .map(|text| json!({ "created_by": text, "comment": text }))
        .collect();
    let config = json!({
        "architecture": TEXTS[0], "os": TEXTS[1], "author": TEXTS[2],
        "config": { "Labels": labels, "Cmd": TEXTS, "Entrypoint": TEXTS, "User": TEXTS[0], "WorkingDir": TEXTS[4], "Env": ["<b>=1"] },
        "rootfs": { "type": "layers", "diff_ids": [] },
        "history": history,
    });
    push_saying(&larder, "team/app", "1", &config, &json!(annotations)).await;
    for view in ["#/image/team/app:1", "#/images/team/app", "#/"] {
        visit(&browser, &larder, view).await;
        browser.finds("main .view").await;
        if view.starts_with("#/image/") {
            browser.shows(TEXTS[0]).await;
            browser.shows(TEXTS[1]).await;
            browser
                .shows("bell\u{2407} escape\u{241b}[31m null\u{2400} c1⟨009B⟩")
                .await;
            browser.shows("⟨202E⟩gnp.exe⟨2066⟩ turned").await;
        }
        let made = "return [...document.querySelectorAll('main script, main img, main b, main svg[onload], main [href^=\"javascript:\"]')].length";
        assert_eq!(browser.run(made).await, 0, "{view}");
        assert_eq!(browser.run("return window.hit ?? null").await, Value::Null);
        // No text reaches out of its box, to the right or over its neighbours.
        let wide = "return document.documentElement.scrollWidth <= innerWidth";
        assert_eq!(browser.run(wide).await, true, "{view}");
        let raw = "return /[\\u0000-\\u0008\\u001b\\u0080-\\u009f\\u202a-\\u202e\\u2066-\\u2069]/.test(document.body.textContent)";
        assert_eq!(browser.run(raw).await, false, "{view}");
    }
    assert_content(&browser).await;
    drop(browser);
    larder.finish().await;
}

/// Names have a grammar that keeps all this out; the page doesn't rely on it.
#[tokio::test(flavor = "multi_thread")]
async fn names_made_of_markup_would_show_as_text_too() {
    let (larder, browser) = (Options::registry().start().await, Browser::start().await);
    visit(&browser, &larder, "#/").await;
    // The page's own functions, with names that no server gives.
    let render = format!(
        "window.texts = {}; window.rendered = null;
         import('./assets/dom.js').then(({{ h, name, path }}) => {{
           const box = h('div', {{ id: 'box' }}, window.texts.map((text) => h('p', {{ title: text, 'aria-label': text }}, text, name(text), path(`a/${{text}}/${{text}}`))));
           document.querySelector('main').replaceChildren(box);
           window.rendered = [...box.children].map((one) => one.querySelectorAll('*:not(bdi):not(span):not(wbr)').length);
         }})",
        json!(TEXTS)
    );
    browser.run(&render).await;
    let elements = browser.until("return window.rendered").await;
    assert_eq!(elements, json!([0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(browser.run("return window.hit ?? null").await, Value::Null);
    let isolated = "return [...document.querySelectorAll('#box bdi')].every((one) => getComputedStyle(one).unicodeBidi === 'isolate')";
    assert_eq!(browser.run(isolated).await, true);
    // And if something did get through all of it, nothing would run.
    let injected = "document.querySelector('#box').innerHTML = '<img src=x onerror=\"window.hit=9\"><a href=\"javascript:window.hit=9\" id=go>x</a>'; document.getElementById('go').click(); return true";
    browser.run(injected).await;
    browser.until("return true").await;
    assert_eq!(browser.run("return window.hit ?? null").await, Value::Null);
    drop(browser);
    larder.finish().await;
}
