//! An upstream that is down is asked rarely, and keeps nobody waiting who can have a copy.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{Silent, is_quick, move_upstream, noted, timed, waits_once};
use crate::support::hub::{Fault, Hub, What, Where};
use crate::support::image::Image;
use crate::support::programs::{Larder, Options};

const X: &str = "/v2/library/x/manifests/1";
const Y: &str = "/v2/library/y/manifests/1";
const TAGS: &str = "/v2/library/x/tags/list";

/// A listener whose queue is full: the kernel passes over whoever tries to connect.
struct Swallowing {
    url: String,
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl Swallowing {
    async fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        let patience = Duration::from_millis(300);
        while let Ok(stream) = timeout(patience, TcpStream::connect(address)).await {
            queue.push(stream.unwrap());
            assert!(queue.len() < 100, "the queue has no end");
        }
        Self {
            url: format!("http://{address}"),
            _listener: listener,
            _queue: queue,
        }
    }
}

/// A hub with three images, and a larder that has two of them and asks for tags each time.
async fn started() -> (Hub, Larder, String) {
    let hub = Hub::builder().referrers(10).start().await;
    let digest = hub.push("library/x", "1", &Image::random(1, &[3000]));
    hub.push("library/y", "1", &Image::random(2, &[3000]));
    hub.push("library/cold", "1", &Image::random(3, &[3000]));
    let larder = Options::mirror_of(&hub).never_fresh().start().await;
    let referrers = format!("/v2/library/x/referrers/{digest}");
    for path in [X, Y, TAGS, &referrers] {
        assert_eq!(larder.get(path).await.status, 200, "{path}");
    }
    (hub, larder, referrers)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_accepts_and_never_answers_is_waited_for_once() {
    let (_hub, mut larder, referrers) = started().await;
    let silent = Silent::start();
    move_upstream(&mut larder, &silent.url).await;
    waits_once(&larder, X).await;
    for path in [X, Y, TAGS, &referrers] {
        is_quick(&larder, path, "stale").await;
    }
    // Windows pass; whoever looks whether it is back does so behind the answers.
    let started = Instant::now();
    let mut slowest = Duration::ZERO;
    while started.elapsed() < Duration::from_secs(12) {
        for path in [X, Y, TAGS] {
            let (answer, took) = timed(&larder, path).await;
            assert_eq!((answer.status, answer.cache()), (200, "stale"), "{path}");
            slowest = slowest.max(took);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("none of the others waited longer than {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let questions = silent.questions();
    assert!((2..=3).contains(&questions), "{questions}");
    let log = larder.log();
    assert_eq!(log.matches("docker.io is down").count(), 1, "{log}");
    let hint = noted(&larder, |hint| {
        hint["upstreams"]["docker.io"]["state"] == "down"
    });
    let reason = hint.await["upstreams"]["docker.io"]["reason"].clone();
    assert!(reason.as_str().unwrap().contains("in time"), "{reason}");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_refuses_connections_is_left_alone_and_found_again() {
    let (hub, larder, _) = started().await;
    hub.down().await;
    for path in [X, Y, TAGS] {
        is_quick(&larder, path, "stale").await;
    }
    let cold = "/v2/library/cold/manifests/1";
    let (refused, took) = timed(&larder, cold).await;
    assert_eq!(refused.status, 502);
    assert!(took < Duration::from_secs(1), "{took:?}");
    hub.up().await;
    hub.clear_log();
    // It is back, but within the window nobody knows, and nobody asks.
    assert_eq!(larder.get(cold).await.status, 502);
    assert_eq!(larder.get(X).await.cache(), "stale");
    assert!(hub.asked().is_empty(), "{:?}", hub.asked());
    let started = Instant::now();
    while larder.get(cold).await.status != 200 {
        assert!(started.elapsed() < Duration::from_secs(12));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(larder.get(X).await.cache(), "revalidated");
    larder.logged("docker.io answers again, after").await;
    let log = larder.log();
    assert_eq!(log.matches("docker.io is down").count(), 1, "{log}");
    noted(&larder, |hint| {
        hint["upstreams"]["docker.io"]["state"] == "up"
    })
    .await;
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_down_is_revalidated_behind_a_stale_answer_and_a_reload_asks_at_once() {
    let (hub, mut larder, _) = started().await;
    hub.down().await;
    assert_eq!(larder.get(X).await.cache(), "stale");
    hub.up().await;
    let started = Instant::now();
    let mut answers = Vec::new();
    while answers.last().map(String::as_str) != Some("revalidated") {
        assert!(started.elapsed() < Duration::from_secs(12), "{answers:?}");
        // Each of them is a copy that was served at once, until it is known better.
        answers.push(larder.get(Y).await.cache().to_owned());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    answers.pop();
    assert!(answers.iter().all(|cache| cache == "stale"), "{answers:?}");
    hub.down().await;
    assert_eq!(larder.get(Y).await.cache(), "stale");
    hub.up().await;
    assert_eq!(larder.get(Y).await.cache(), "stale");
    larder.hang_up().await;
    assert_eq!(larder.get(Y).await.cache(), "revalidated");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_swallows_packets_delays_a_cached_pull_once() {
    let (_hub, mut larder, _) = started().await;
    let swallowing = Swallowing::start().await;
    move_upstream(&mut larder, &swallowing.url).await;
    waits_once(&larder, X).await;
    for path in [X, Y, TAGS] {
        is_quick(&larder, path, "stale").await;
    }
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_silent_about_one_thing_gives_the_others() {
    let (hub, larder, _) = started().await;
    hub.fault(Fault::on(Where::manifests().path("/x/")).does(What::StallHeaders));
    waits_once(&larder, X).await;
    // What is cached is not worth a second wait; what is not is asked for.
    is_quick(&larder, Y, "stale").await;
    assert_eq!(larder.get("/v2/library/cold/manifests/1").await.status, 200);
    // That was an answer: the upstream is there.
    assert_eq!(larder.get(Y).await.cache(), "revalidated");
    is_quick(&larder, X, "stale").await;
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_down_does_not_hold_up_a_push_of_a_new_name() {
    let (_hub, mut larder, _) = started().await;
    let silent = Silent::start();
    move_upstream(&mut larder, &silent.url).await;
    let unknown = |digit: &str| format!("/v2/team/app/blobs/sha256:{}", digit.repeat(64));
    let started = Instant::now();
    for digit in ["1", "2", "3"] {
        assert_eq!(larder.head(&unknown(digit)).await.status, 404);
    }
    let took = started.elapsed();
    assert!(
        took < Duration::from_secs(5),
        "three layers, one wait: {took:?}"
    );
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_under_way_goes_on_by_its_own_rules() {
    let hub = Hub::start().await;
    let content: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
    let digest = hub.put_blob("library/x", content.clone());
    hub.push("library/x", "1", &Image::random(1, &[3000]));
    let larder = Options::mirror_of(&hub).never_fresh().start().await;
    assert_eq!(larder.get(X).await.status, 200);
    let gate = hub.fault(
        Fault::on(Where::blobs().get())
            .times(1)
            .does(What::Gate(Some(1_000_000))),
    );
    let path = format!("/v2/library/x/blobs/{digest}");
    let pull = larder.get(&path);
    let outage = async {
        hub.wait_for(|asked| asked.iter().any(|asked| asked.body_sent() >= 1_000_000))
            .await;
        hub.down().await;
        assert_eq!(larder.get(X).await.cache(), "stale");
        hub.up().await;
        hub.open(gate);
    };
    let (got, ()) = tokio::join!(pull, outage);
    assert!(got.complete && got.body == content, "{}", larder.log());
    larder.finish().await;
}
