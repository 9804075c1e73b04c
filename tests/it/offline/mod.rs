//! Upstreams that are down, or not to be asked, or to be asked rarely; and tags that are held.

mod down;
mod hold;
mod limit;
mod namespace;
mod switch;

use std::cell::Cell;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::programs::{Answer, Larder};

/// Somebody who accepts connections and never answers.
struct Silent {
    url: String,
    questions: Arc<AtomicUsize>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Silent {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (questions, open) = (Arc::<AtomicUsize>::default(), Arc::default());
        let silent = Self {
            url,
            questions: Arc::clone(&questions),
            open: Arc::clone(&open),
        };
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                questions.fetch_add(1, Ordering::SeqCst);
                open.lock().unwrap().push(socket.unwrap());
            }
        });
        silent
    }

    /// How often anybody connected, which without answers is how often it was asked.
    fn questions(&self) -> usize {
        self.questions.load(Ordering::SeqCst)
    }

    /// Whether everybody who connected has hung up by now.
    fn is_alone(&self) -> bool {
        let mut rest = [0; 4096];
        self.open.lock().unwrap().iter_mut().all(|socket| {
            socket.set_nonblocking(true).unwrap();
            loop {
                match socket.read(&mut rest) {
                    Ok(0) => break true,
                    Ok(_) => {}
                    Err(_) => break false,
                }
            }
        })
    }
}

/// Moves the upstream of a running larder, which then knows nothing of the new one.
async fn move_upstream(larder: &mut Larder, url: &str) {
    larder.reconfigure(&["upstreams", "docker.io", "url"], json!(url));
    let said = larder.hang_up().await;
    assert!(said.contains("has been read again"), "{said}");
}

async fn timed(larder: &Larder, path: &str) -> (Answer, Duration) {
    let started = Instant::now();
    let answer = larder.get(path).await;
    (answer, started.elapsed())
}

/// A cached answer for which an upstream is waited for once. On a machine that does other things
/// meanwhile it may take longer, by as much as larder takes there for what it has only to say.
async fn waits_once(larder: &Larder, path: &str) {
    let slowest = Cell::new(Duration::ZERO);
    let beside = async {
        loop {
            let (_, took) = timed(larder, "/v2/").await;
            slowest.set(slowest.get().max(took));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (answer, waited) = tokio::select! {
        answered = timed(larder, path) => answered,
        () = beside => unreachable!("it goes on for ever"),
    };
    assert_eq!((answer.status, answer.cache()), (200, "stale"), "{path}");
    let slowest = slowest.get();
    let most = Duration::from_millis(3500) + slowest;
    assert!(waited < most, "{path}: {waited:?}, {slowest:?}");
}

/// A cached answer, several times: none of them may wait for anything, and at least one shows how
/// quick it is on a machine that does other things meanwhile.
async fn is_quick(larder: &Larder, path: &str, cache: &str) {
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let (answer, took) = timed(larder, path).await;
        assert_eq!((answer.status, answer.cache()), (200, cache), "{path}");
        assert!(took < Duration::from_secs(1), "{path}: {took:?}");
        fastest = fastest.min(took);
    }
    assert!(fastest < Duration::from_millis(50), "{path}: {fastest:?}");
}

/// What larder has written down about its upstreams, once it is like that.
async fn noted(larder: &Larder, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let path = larder.root().join("larder.upstreams");
    let started = Instant::now();
    loop {
        let hint: Option<Value> = std::fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        match hint {
            Some(hint) if is_wanted(&hint) => return hint,
            hint => assert!(started.elapsed().as_secs() < 10, "{hint:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
