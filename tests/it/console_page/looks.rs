//! What can be measured of how the page looks and how it is used: contrast, labels, focus, phones.

use serde_json::{Value, json};

use super::{assert_content, push_saying, visit};
use crate::support::hub::Hub;
use crate::support::image::Image;
use crate::support::programs::{Browser, Key, Larder, Options};

/// The views, and what is there when one is complete.
const VIEWS: [(&str, &str); 7] = [
    ("#/", ".amounts"),
    ("#/images", ".repos a"),
    ("#/images/docker.io/library/app", ".tags tbody tr"),
    (
        "#/image/team/a-very-long-name-of-a-service-that-somebody-chose/and-another-part:1.0.0-with-a-long-tag-2026.11.21",
        ".steps li",
    ),
    ("#/upstreams", ".card"),
    ("#/setup", ".client"),
    ("#/login", "form.login"),
];

/// A larder with something in every view.
async fn furnished() -> (Hub, Larder) {
    let hub = Hub::start().await;
    let child = |seed| Image::random(seed, &[40_000, 4000]);
    let index = Image::index(vec![(child(1), "amd64"), (child(2), "arm64")]);
    hub.push("library/app", "1", &index);
    let larder = Options::mirror_of(&hub).start().await;
    let warm = ["warm", "app:1", "--platform", "linux/amd64"];
    larder.run(&warm).await.expect_success();
    let config = json!({
        "architecture": "amd64", "os": "linux", "author": "Ada",
        "config": { "Labels": { "a.label.with-a-long-name-that-does-not-break": "x".repeat(400) }, "Cmd": ["run"] },
        "rootfs": { "type": "layers", "diff_ids": [] },
        "history": [{ "created_by": "RUN ".to_owned() + &"very-long-word".repeat(40) }, { "created_by": "CMD run", "empty_layer": true }],
    });
    let name = "team/a-very-long-name-of-a-service-that-somebody-chose/and-another-part";
    let tag = "1.0.0-with-a-long-tag-2026.11.21";
    push_saying(&larder, name, tag, &config, &json!({ "k": "v" })).await;
    (hub, larder)
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_phone_nothing_is_wider_than_the_screen() {
    let ((_hub, larder), browser) = (furnished().await, Browser::start().await);
    for (width, height) in [(360, 740), (768, 1024)] {
        browser.look(width, height, "light").await;
        for (view, complete) in VIEWS {
            visit(&browser, &larder, view).await;
            browser.finds(complete).await;
            let wider = browser
                .run(
                    "const out = [...document.querySelectorAll('body *')].filter((one) => {
                       const box = one.getBoundingClientRect();
                       if (!box.width || box.right <= innerWidth + 0.5) return false;
                       for (let up = one.parentElement; up; up = up.parentElement) {
                         if (getComputedStyle(up).overflowX !== 'visible') return false;
                       }
                       return true;
                     }).map((one) => one.outerHTML.slice(0, 120));
                     return [document.documentElement.scrollWidth, out]",
                )
                .await;
            assert_eq!(wider, json!([width, []]), "{view} at {width}");
        }
    }
    assert_content(&browser).await;
    drop(browser);
    larder.finish().await;
}

/// Texts with too little contrast to what is behind them (WCAG 2.2, 1.4.3). Colours are read back
/// from a canvas, so that each way to write one counts.
const CONTRAST: &str = "
const pen = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
const known = new Map();
const rgba = (colour) => {
  if (!known.has(colour)) {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
    known.set(colour, [r, g, b, a / 255]);
  }
  return known.get(colour);
};
const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
const ground = (one) => {
  const layers = [];
  for (let up = one; up; up = up.parentElement) {
    const colour = rgba(getComputedStyle(up).backgroundColor);
    if (colour[3] > 0) layers.push(colour);
    if (colour[3] === 1) break;
  }
  return layers.reduceRight((below, layer) => over(layer, below), [255, 255, 255, 1]);
};
const light = (c) => {
  const [r, g, b] = c.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ratio = (a, b) => {
  const [x, y] = [light(a), light(b)].sort((m, n) => n - m);
  return (x + 0.05) / (y + 0.05);
};
const poor = [];
let count = 0;
const judge = (one, text, colour) => {
  const style = getComputedStyle(one);
  const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
  const behind = ground(one);
  const found = ratio(over(rgba(colour), behind), behind);
  count += 1;
  if (found < (large ? 3 : 4.5)) poor.push(`${found.toFixed(2)} ${text.slice(0, 40)} in ${one.localName}.${one.className} ${colour} on ${behind}`);
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const one = walker.currentNode.parentElement;
  const text = walker.currentNode.data.trim();
  if (text && one.checkVisibility({ visibilityProperty: true }) && !one.closest('noscript')) judge(one, text, getComputedStyle(one).color);
}
for (const one of document.querySelectorAll('input[placeholder]')) {
  if (one.checkVisibility()) judge(one, one.placeholder, getComputedStyle(one, '::placeholder').color);
}
return [count, poor];
";

#[tokio::test(flavor = "multi_thread")]
async fn every_text_has_enough_contrast_in_light_and_in_dark() {
    let ((_hub, larder), browser) = (furnished().await, Browser::start().await);
    for colours in ["light", "dark"] {
        browser.look(1280, 900, colours).await;
        for (view, complete) in VIEWS {
            visit(&browser, &larder, view).await;
            browser.finds(complete).await;
            let judged = browser.run(CONTRAST).await;
            assert!(judged[0].as_u64() > Some(12), "{view}: {judged}");
            assert_eq!(judged[1], json!([]), "{view} in {colours}");
        }
        // What shows only sometimes.
        visit(&browser, &larder, "#/images/docker.io/library/app").await;
        browser.click("button[aria-label^='Delete the tag']").await;
        browser.finds("dialog[open]").await;
        let judged = browser.run(CONTRAST).await;
        assert_eq!(judged[1], json!([]), "the dialogue in {colours}");
    }
    assert_content(&browser).await;
    drop(browser);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn colours_follow_the_system_until_somebody_chooses() {
    let (larder, browser) = (Options::registry().start().await, Browser::start().await);
    let ground = "const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/\\d+/g); return (Number(r) + Number(g) + Number(b)) / 3 > 128 ? 'light' : 'dark'";
    for colours in ["dark", "light"] {
        browser.look(1280, 900, colours).await;
        visit(&browser, &larder, "#/").await;
        assert_eq!(browser.run(ground).await, colours);
    }
    // Light, then dark.
    browser.click("#theme").await;
    browser.click("#theme").await;
    assert_eq!(browser.run(ground).await, "dark");
    visit(&browser, &larder, "#/images").await;
    assert_eq!(browser.run(ground).await, "dark", "a choice is kept");
    browser.click("#theme").await;
    assert_eq!(browser.run(ground).await, "light", "the system again");
    assert_content(&browser).await;
    drop(browser);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_can_be_used_has_a_name_for_screen_readers() {
    let ((_hub, larder), browser) = (furnished().await, Browser::start().await);
    let roles = [
        "button",
        "link",
        "textbox",
        "searchbox",
        "combobox",
        "checkbox",
        "slider",
        "progressbar",
        "image",
        "listbox",
        "dialog",
    ];
    for (view, complete) in VIEWS {
        visit(&browser, &larder, view).await;
        browser.finds(complete).await;
        if view == "#/images" {
            browser
                .click("button[aria-label='Fetch an image ahead']")
                .await;
            browser.finds("dialog[open]").await;
        }
        let tree = browser.tool("Accessibility.getFullAXTree", json!({})).await;
        let nodes = tree["nodes"].as_array().expect("nodes");
        let used = nodes.iter().filter(|node| {
            let role = node["role"]["value"].as_str().unwrap_or_default();
            node["ignored"] != true && roles.contains(&role)
        });
        let used: Vec<&Value> = used.collect();
        assert!(used.len() > 7, "{view}: {}", used.len());
        for node in used {
            let name = node["name"]["value"].as_str().unwrap_or_default().trim();
            assert!(!name.is_empty(), "{view}: {node}");
        }
        let language = browser.run("return document.documentElement.lang").await;
        assert_eq!(language, "en");
        let marks = "return ['header', 'nav', 'main', 'h1'].map((one) => document.querySelectorAll(one === 'h1' ? 'main h1' : `body ${one}`).length > 0)";
        assert_eq!(
            browser.run(marks).await,
            json!([true, true, true, true]),
            "{view}"
        );
    }
    assert_content(&browser).await;
    drop(browser);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_alone_reaches_everything_in_order_and_where_it_is_shows() {
    let ((_hub, larder), browser) = (furnished().await, Browser::start().await);
    let focus = "
        const one = document.activeElement;
        if (!one || one === document.body) return null;
        const style = getComputedStyle(one), box = one.getBoundingClientRect();
        const rings = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
        const all = [...document.querySelectorAll('*')];
        return [all.indexOf(one), rings, box.width > 0 && box.bottom > 0 && box.top < innerHeight, one.outerHTML.slice(0, 140)]";
    for (view, complete) in VIEWS {
        if view == "#/login" {
            continue; // It takes the focus to its first field by itself.
        }
        visit(&browser, &larder, view).await;
        browser.finds(complete).await;
        let usable = "return [...document.querySelectorAll('a[href], button, input, select, [tabindex=\"0\"]')].filter((one) => one.checkVisibility({ visibilityProperty: true }) && !one.disabled).length";
        let usable = browser.run(usable).await.as_u64().expect("a number");
        let (mut last, mut reached) = (-1, 0);
        loop {
            browser.press(Key::Tab).await;
            let now = browser.run(focus).await;
            let Some(at) = now[0].as_i64().filter(|at| *at > last) else {
                break; // Round again, from the first.
            };
            assert_eq!(
                (&now[1], &now[2]),
                (&json!(true), &json!(true)),
                "{view}: {now}"
            );
            (last, reached) = (at, reached + 1);
        }
        // Some that scroll can be reached too.
        assert!(reached >= usable, "{view}: {reached} of {usable}");
    }

    // A day's work without a mouse: to the tags of an image, to one of them, and almost delete it.
    visit(&browser, &larder, "#/").await;
    browser.press(Key::Tab).await;
    assert_eq!(
        browser.run("return document.activeElement.id").await,
        "skip"
    );
    browser.press(Key::Enter).await;
    assert_eq!(
        browser.run("return document.activeElement.id").await,
        "main"
    );
    browser.keys("/library/app:1").await;
    browser.finds("#found [role=option]").await;
    browser.press(Key::Enter).await;
    browser.shows("How it was made").await;
    let to_delete =
        "return document.activeElement.getAttribute('aria-label')?.startsWith('Delete the tag')";
    for _ in 0..30 {
        if browser.run(to_delete).await == true {
            break;
        }
        browser.press(Key::Tab).await;
    }
    browser.press(Key::Enter).await;
    browser.finds("dialog[open]").await;
    browser.press(Key::Escape).await;
    browser
        .until("return !document.querySelector('dialog')")
        .await;
    assert_eq!(browser.run(to_delete).await, true, "the focus is back");
    assert_content(&browser).await;
    drop(browser);
    larder.finish().await;
}
