//! `docs/api.md`: each of its requests is sent, and answered with what it shows.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::pull;
use crate::support::hub::Hub;
use crate::support::image::Image;
use crate::support::programs::{Larder, Options};
use crate::support::until::until;

/// A request of the document, and what it says that comes back.
#[derive(Debug)]
struct Example {
    method: String,
    path: String,
    body: String,
    status: u16,
    answer: String,
}

/// Examples are blocks of `http`: a request line, headers, perhaps a body after an empty line; then a
/// line `-> STATUS` and what is in the answer.
fn examples(text: &str) -> Vec<Example> {
    let blocks = text.split("```http\n").skip(1);
    let blocks = blocks.map(|rest| rest.split_once("```").unwrap().0);
    let example = |block: &str| {
        let (asked, answered) = block.split_once("-> ").expect("an answer in the example");
        let (head, body) = asked.split_once("\n\n").unwrap_or((asked, ""));
        let (method, path) = head.lines().next().unwrap().split_once(' ').unwrap();
        let (status, answer) = answered.split_once('\n').unwrap();
        Example {
            method: method.to_owned(),
            path: path.to_owned(),
            body: body.trim().to_owned(),
            status: status.split(' ').next().unwrap().parse().unwrap(),
            answer: answer.trim().to_owned(),
        }
    };
    blocks.map(example).collect()
}

/// Whether an answer has all keys that are shown, and nothing beside them. What a list holds is like
/// its first entry; values are as they happen to be.
fn assert_like(shown: &Value, got: &Value, at: &str) {
    match (shown, got) {
        (Value::Object(shown), Value::Object(got)) => {
            // What people choose the keys of.
            if ["annotations", "labels"]
                .iter()
                .any(|end| at.ends_with(end))
            {
                return;
            }
            let keys = |of: &serde_json::Map<String, Value>| {
                let mut keys: Vec<String> = of.keys().cloned().collect();
                keys.sort();
                keys
            };
            assert_eq!(keys(shown), keys(got), "{at}");
            for (key, value) in shown {
                assert_like(value, &got[key], &format!("{at}.{key}"));
            }
        }
        (Value::Array(shown), Value::Array(got)) => {
            if let (Some(shown), Some(got)) = (shown.first(), got.first()) {
                assert_like(shown, got, &format!("{at}[]"));
            }
        }
        (Value::Null, _) | (_, Value::Null) => {}
        (shown, got) => {
            let kind = std::mem::discriminant(shown) == std::mem::discriminant(got);
            assert!(kind, "{at}: {shown} is shown, and {got} comes");
        }
    }
}

async fn stocked(hub: &Hub) -> (Larder, Image) {
    let child = |seed| Image::random(seed, &[30_000, 2000]);
    let image = Image::index(vec![(child(1), "amd64"), (child(2), "arm64")]).oci();
    hub.push("library/python", "3.12", &image);
    let larder = Options::mirror_of(hub).start().await;
    pull(&larder, "library/python", "3.12", &image).await;
    larder.push("team/app", "v1", &child(3)).await;
    larder.push("team/app", "v2", &child(3)).await;
    until("it is counted", async || {
        let state = larder.get("/api/v1/").await.json();
        state["disk"]["counted"] == true && state["tags"] == 3
    })
    .await;
    (larder, image)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_the_document_is_answered_as_it_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md");
    let text = fs::read_to_string(path).unwrap();
    let hub = Hub::start().await;
    let (larder, image) = stocked(&hub).await;
    let examples = examples(&text);
    assert!(examples.len() >= 17, "{} examples", examples.len());
    let mut id = String::new();
    for example in examples {
        let path = example.path.replace("DIGEST", &image.digest());
        let path = path.replace("WARM-ID", &id);
        if path.ends_with("/events") {
            let request = larder.request("GET", &path).send().await;
            let mut response = request.unwrap();
            let first = response.chunk().await.unwrap().unwrap();
            let line = |text: &str, at: usize| text.lines().nth(at).unwrap().to_owned();
            let first = str::from_utf8(&first).unwrap();
            assert_eq!(line(first, 0), line(&example.answer, 0));
            let data = |text: &str| -> Value {
                let line = line(text, 1);
                line.strip_prefix("data: ").unwrap().parse().unwrap()
            };
            assert_like(&data(&example.answer), &data(first), &path);
            continue;
        }
        let request = larder.request(&example.method, &path);
        let request = request.header("x-larder-action", "1");
        let answer = larder.send(request.body(example.body.clone())).await;
        assert_eq!(answer.status, example.status, "{path}: {answer:?}");
        if example.answer.is_empty() {
            assert!(answer.body.is_empty(), "{path}: {answer:?}");
            continue;
        }
        let shown = example.answer.parse();
        let shown: Value = shown.unwrap_or_else(|error| panic!("{path}: {error}"));
        let got = answer.json();
        assert_like(&shown, &got, &path);
        if path == "/api/v1/warm" {
            got["id"].as_str().unwrap().clone_into(&mut id);
        }
    }
    larder.finish().await;
}
