//! Server-sent events.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};

use super::{act, api, pull};
use crate::support::hub::{Fault, Hub, What, Where};
use crate::support::image::Image;
use crate::support::programs::{Larder, Options};

/// How long a test waits for an event.
const PATIENCE: Duration = Duration::from_secs(30);

/// Somebody who follows.
struct Events {
    response: reqwest::Response,
    text: String,
    waiting: VecDeque<(String, Value)>,
}

impl Events {
    async fn of(larder: &Larder) -> Self {
        let response = larder.request("GET", "/api/v1/events").send().await;
        let response = response.expect("an answer's head");
        assert_eq!(response.status(), 200);
        let media_type = &response.headers()["content-type"];
        assert_eq!(media_type, "text/event-stream; charset=utf-8");
        Self {
            response,
            text: String::new(),
            waiting: VecDeque::new(),
        }
    }

    /// The next event and its data; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
            let chunk = chunk.expect("an event in time").ok()??;
            self.text.push_str(str::from_utf8(&chunk).unwrap());
            while let Some((event, _)) = self.text.split_once("\n\n") {
                let mut lines = event.lines();
                let first = lines.next().unwrap();
                if !first.starts_with(':') {
                    let name = first.strip_prefix("event: ").unwrap().to_owned();
                    let data = lines.next().unwrap().strip_prefix("data: ").unwrap();
                    assert_eq!(lines.next(), None, "{event}");
                    self.waiting.push_back((name, data.parse().unwrap()));
                }
                let read = event.len() + 2;
                self.text.drain(..read);
            }
        }
    }

    /// The data of the first event of that name for which this holds.
    async fn until(&mut self, name: &str, mut holds: impl FnMut(&Value) -> bool) -> Value {
        loop {
            let event = self.next().await;
            let (found, data) = event.expect("events go on");
            if found == name && holds(&data) {
                return data;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_clients_of_one_fill_are_seen_as_they_follow_it() {
    let hub = Hub::start().await;
    let image = Image::random(1, &[3_000_000]);
    hub.push("library/x", "1", &image);
    let slow = Fault::on(Where::blobs().get().digest(&image.layer_digests()[0]));
    hub.fault(slow.does(What::Rate(600_000)));
    let larder = Options::mirror_of(&hub).start().await;
    assert_eq!(larder.get("/v2/library/x/manifests/1").await.status, 200);
    let mut events = Events::of(&larder).await;
    let first = events.next().await.unwrap();
    assert_eq!((first.0.as_str(), &first.1["fills"]), ("state", &json!([])));
    let digest = image.layer_digests()[0].clone();
    let blobs = image.blobs();
    let size = blobs
        .iter()
        .find(|(name, _)| *name == digest)
        .unwrap()
        .1
        .len();
    let path = format!("/v2/library/x/blobs/{digest}");
    let pulls = (0..30).map(|_| larder.get(&path));
    let watching = async {
        let state = events.until("state", |state| {
            let fill = &state["fills"][0];
            fill["followers"] == 30 && fill["written"].as_u64() > Some(0)
        });
        let state = state.await;
        let fill = state["fills"][0].clone();
        assert_eq!(
            (&fill["repository"], &fill["size"]),
            (&json!("docker.io/library/x"), &json!(size))
        );
        assert_eq!(
            (&fill["digest"], &fill["upstream"]),
            (&json!(digest), &json!("docker.io"))
        );
        assert!(fill["since"].is_string(), "{fill}");
        let pulling = state["pulls"].as_array().unwrap();
        assert_eq!(pulling.len(), 30);
        assert_eq!(
            (&pulling[0]["kind"], &pulling[0]["client"]),
            (&json!("blob"), &json!("127.0.0.1"))
        );
        assert_eq!(
            (&pulling[0]["reference"], &pulling[0]["size"]),
            (&json!(digest), &json!(size))
        );
        let more = events.until("state", |state| {
            let now = &state["fills"][0];
            now["written"].as_u64() > fill["written"].as_u64() && now["speed"].as_u64() > Some(0)
        });
        let speed = more.await["fills"][0]["speed"].as_u64().unwrap();
        assert!(speed < 3_000_000, "{speed} is more than the hub gives");
        let changed = events.until("changed", |_| true).await;
        assert_eq!(changed["repository"], "docker.io/library/x");
        events
            .until("state", |state| {
                state["fills"] == json!([]) && state["pulls"] == json!([])
            })
            .await
    };
    let (answers, state) = tokio::join!(futures_util::future::join_all(pulls), watching);
    assert!(answers.iter().all(|answer| answer.body.len() == size));
    assert!(state["totals"]["served"].as_u64() >= Some(90_000_000));
    assert_eq!(state["totals"]["pulls"]["joined"], 29);
    // It stops although somebody still follows.
    larder.finish().await;
    while events.next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_the_connection_begins_with_the_state_and_hears_of_each_change() {
    let hub = Hub::start().await;
    let image = Image::random(2, &[1000]);
    hub.push("library/x", "1", &image);
    let mut larder = Options::mirror_of(&hub).start().await;
    assert_eq!(api(&larder, "").await["tags"], 0);
    let mut events = Events::of(&larder).await;
    assert_eq!(events.next().await.unwrap().0, "state");
    larder.push("team/app", "1", &image).await;
    let name = |name: &'static str| move |data: &Value| data["repository"] == name;
    events.until("changed", name("team/app")).await;
    pull(&larder, "library/x", "1", &image).await;
    events.until("changed", name("docker.io/library/x")).await;
    let deleted = act(&larder, "DELETE", "tags?repository=team/app&tag=1").await;
    assert_eq!(deleted.status, 204);
    events.until("changed", name("team/app")).await;
    larder.kill().await;
    while events.next().await.is_some() {}
    larder.start_again().await;
    let mut events = Events::of(&larder).await;
    assert_eq!(events.next().await.unwrap().0, "state");
    larder.push("team/app", "1", &image).await;
    events.until("changed", name("team/app")).await;
    // Other rules may hold now: whoever follows has to ask anew.
    larder.hang_up().await;
    while events.next().await.is_some() {}
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_slowly_is_told_that_there_was_too_much() {
    let larder = Options::registry().start().await;
    larder
        .push("team/app", "1", &Image::random(3, &[1000]))
        .await;
    assert_eq!(api(&larder, "").await["tags"], 1);
    let mut events = Events::of(&larder).await;
    assert_eq!(events.next().await.unwrap().0, "state");
    // More at once than is kept for anybody.
    let repositories = larder.tree().join("repositories");
    for n in 0..300 {
        let copied = std::process::Command::new("cp")
            .args(["-a", "team/app"])
            .arg(format!("copy{n}"))
            .current_dir(&repositories)
            .status();
        assert!(copied.unwrap().success());
    }
    events
        .until("changed", |data| data["repository"].is_null())
        .await;
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_follow_as_there_is_room_for() {
    let larder = Options::registry().start().await;
    let mut all = Vec::new();
    for _ in 0..200 {
        all.push(Events::of(&larder).await);
    }
    let refused = larder.get("/api/v1/events").await;
    assert_eq!(
        (refused.status, refused.code()),
        (503, "UNAVAILABLE".into())
    );
    assert!(!refused.header("retry-after").is_empty());
    for events in &mut all {
        assert_eq!(events.next().await.unwrap().0, "state");
    }
    // Readers that have gone make room, as soon as that is noticed.
    drop(all);
    crate::support::until::until("there is room again", async || {
        let request = larder.request("GET", "/api/v1/events").send().await;
        request.unwrap().status() == 200
    })
    .await;
    larder.finish().await;
}
