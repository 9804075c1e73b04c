//! The names in the documentation, in the dashboard and in the alert rules are those of the page.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use regex::Regex;
use serde_json::Value;

use super::{Page, busy};
use crate::support::until::until;

fn docs(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(name);
    fs::read_to_string(path).unwrap()
}

/// Every expression of the dashboard, with the names of its panels.
pub(super) fn of_the_dashboard() -> Vec<(String, String)> {
    fn collect(place: &Value, title: &str, found: &mut Vec<(String, String)>) {
        match place {
            Value::Array(all) => all.iter().for_each(|it| collect(it, title, found)),
            Value::Object(all) => {
                let title = all.get("title").and_then(Value::as_str).unwrap_or(title);
                if let Some(Value::String(expression)) = all.get("expr") {
                    found.push((title.to_owned(), expression.clone()));
                }
                all.values().for_each(|it| collect(it, title, found));
            }
            _ => {}
        }
    }
    let dashboard: Value = serde_json::from_str(&docs("grafana.json")).unwrap();
    let mut found = Vec::new();
    collect(&dashboard, "", &mut found);
    assert!(found.len() > 30, "{found:?}");
    found
}

/// The names of metrics that occur in a text, without what a histogram's samples add to theirs.
fn names_in(text: &str) -> BTreeSet<String> {
    let name = Regex::new(r"\b(larder|registry|process)_[a-z0-9_]+").unwrap();
    let parts = ["_bucket", "_sum", "_count"];
    let found = name.find_iter(text).map(|found| {
        let name = found.as_str();
        let bare = parts.iter().find_map(|end| name.strip_suffix(end));
        bare.unwrap_or(name).to_owned()
    });
    found.collect()
}

/// The first columns of the tables: name, type and labels.
fn documented() -> BTreeMap<String, (String, Vec<String>)> {
    let row = Regex::new(r"^\| `([a-z_]+)` \| (counter|gauge|histogram) \| ([^|]*)\| .").unwrap();
    let label = Regex::new("`([a-z]+)`").unwrap();
    let text = docs("metrics.md");
    let rows = text.lines().filter_map(|line| row.captures(line));
    let entry = |found: regex::Captures<'_>| {
        let labels = label.captures_iter(found.get(3).unwrap().as_str());
        let labels = labels.map(|label| label[1].to_owned()).collect();
        (found[1].to_owned(), (found[2].to_owned(), labels))
    };
    rows.map(entry).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_names_all_metrics_with_their_labels_and_no_others() {
    let (larder, _hub, receiver, _image) = busy().await;
    receiver.events(1).await;
    until("mirrors are counted and an event is through", async || {
        let page = Page::of(&larder).await;
        page.samples.contains_key("larder_mirrored_images")
            && page
                .samples
                .keys()
                .any(|name| name.starts_with("registry_notifications_status_total"))
    })
    .await;
    let page = Page::of(&larder).await;
    let documented = documented();
    let said = documented
        .iter()
        .map(|(name, (kind, _))| (name.clone(), kind.clone()));
    assert_eq!(said.collect::<BTreeMap<_, _>>(), page.families);
    // With everything seen once, there is something of each, with the labels that are said.
    let label = Regex::new("([a-z]+)=\"").unwrap();
    let mut seen = BTreeMap::new();
    for sample in page.samples.keys() {
        let family = page.family_of(sample);
        let family = family.unwrap_or_else(|| panic!("{sample} belongs nowhere"));
        let labels = label.captures_iter(sample).map(|label| label[1].to_owned());
        let labels: Vec<_> = labels.filter(|label| label != "le").collect();
        seen.insert(family.to_owned(), labels);
    }
    let said = documented
        .into_iter()
        .map(|(name, (_, labels))| (name, labels));
    assert_eq!(seen, said.collect::<BTreeMap<_, _>>());
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_and_the_rules_use_metrics_that_exist() {
    let (larder, ..) = busy().await;
    let page = Page::of(&larder).await;
    let dashboard = of_the_dashboard();
    let texts = dashboard
        .iter()
        .map(|(title, text)| (title.as_str(), text.as_str()));
    let rules = docs("alerts.yml");
    let expressions = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "));
    let texts = texts.chain(expressions.map(|text| ("alerts.yml", text)));
    let examples = docs("metrics.md");
    let examples = examples.split("```").map(|text| ("metrics.md", text));
    let mut used = 0;
    for (place, text) in texts.chain(examples) {
        for name in names_in(text) {
            // Said not to exist.
            if name.starts_with("registry_storage_") {
                continue;
            }
            used += 1;
            assert!(
                page.families.contains_key(&name),
                "{place}: {name} in {text}"
            );
        }
    }
    assert!(used > 60, "{used}");
    drop(larder);
}
