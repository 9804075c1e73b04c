//! What the hub was asked, in order, and how far each answer has got.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::Notify;

use super::lock;

/// Which of the hub's three ports was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    /// The registry itself, `/v2/…`.
    Registry,
    /// The token service, `/token`.
    Token,
    /// The host blobs are redirected to, `/blobs/<digest>`.
    Cdn,
}

impl Listener {
    /// All of them, in the order of their discriminants.
    pub(super) const ALL: [Self; 3] = [Self::Registry, Self::Token, Self::Cdn];
}

/// What kind of thing was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `/v2/`
    Ping,
    /// A manifest, by tag or by digest.
    Manifest,
    /// A blob, at the registry or at the CDN.
    Blob,
    /// `tags/list`
    Tags,
    /// `referrers/<digest>`
    Referrers,
    /// A token.
    Token,
    /// Anything else.
    Other,
}

/// What a path means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Ping,
    Manifest { name: String, reference: String },
    Blob { name: String, digest: String },
    Tags { name: String },
    Referrers { name: String, digest: String },
    Token,
    Signed { digest: String },
    Other,
}

/// One request as it came in.
#[derive(Debug)]
pub(crate) struct Request {
    /// The port that was asked.
    pub(crate) listener: Listener,
    /// What it was asked for.
    pub(crate) kind: Kind,
    /// `GET`, `HEAD`, …
    pub(crate) method: String,
    /// The path, undecoded.
    pub(crate) path: String,
    /// What followed the question mark, undecoded; empty without one.
    pub(crate) query: String,
    /// All headers in order, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// When it was complete.
    pub(crate) at: Instant,
    pub(super) target: Target,
    /// The body of a `POST` to the token service.
    pub(super) form: String,
}

impl Request {
    /// The first header of that (lower-case) name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The first query parameter of that name, decoded.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        parameters(&self.query, name).next()
    }
}

/// The decoded values of all parameters called `name` in a query or a form.
pub(super) fn parameters<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(move |(key, _)| *key == name)
        .map(|(_, value)| decoded(&value.replace('+', " ")))
}

/// Percent-decoding; what is not an escape stays as it is.
pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let escaped = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        if let (b'%', Some(escaped)) = (byte, escaped) {
            bytes.push(escaped);
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One line of the log: the request, and how its answer is doing right now.
#[derive(Clone)]
pub(crate) struct Asked {
    request: Arc<Request>,
    answer: Arc<Answer>,
}

#[derive(Default)]
struct Answer {
    status: AtomicU16,
    body: AtomicU64,
}

impl Asked {
    /// The status that was sent; 0 while none was.
    pub(crate) fn status(&self) -> u16 {
        self.answer.status.load(Ordering::SeqCst)
    }

    /// How many bytes of the body were sent so far, without the framing.
    pub(crate) fn body_sent(&self) -> u64 {
        self.answer.body.load(Ordering::SeqCst)
    }
}

impl Deref for Asked {
    type Target = Request;

    fn deref(&self) -> &Request {
        &self.request
    }
}

impl fmt::Debug for Asked {
    // A failing test prints the whole log: one short line each, tokens cut.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request {
            listener,
            method,
            path,
            query,
            ..
        } = &*self.request;
        write!(f, "{listener:?} {method} {path}?{query}")?;
        for (name, value) in &self.headers {
            if ["authorization", "range"].contains(&name.as_str()) {
                write!(f, " {name}={value:.40}")?;
            }
        }
        write!(f, " -> {} ({} bytes)", self.status(), self.body_sent())
    }
}

/// The log, and the bell that rings whenever something in it changes.
#[derive(Default)]
pub(super) struct Log {
    lines: Mutex<Vec<Asked>>,
    changed: Notify,
}

impl Log {
    pub(super) fn push(&self, request: Request) -> Asked {
        let asked = Asked {
            request: Arc::new(request),
            answer: Arc::default(),
        };
        lock(&self.lines).push(asked.clone());
        self.ring();
        asked
    }

    pub(super) fn all(&self) -> Vec<Asked> {
        lock(&self.lines).clone()
    }

    pub(super) fn clear(&self) {
        lock(&self.lines).clear();
    }

    pub(super) fn answered(&self, asked: &Asked, status: u16) {
        asked.answer.status.store(status, Ordering::SeqCst);
        self.ring();
    }

    pub(super) fn sent(&self, asked: &Asked, bytes: usize) {
        asked.answer.body.fetch_add(bytes as u64, Ordering::SeqCst);
        self.ring();
    }

    /// Wakes everybody who waits for something to happen.
    pub(super) fn ring(&self) {
        self.changed.notify_waiters();
    }

    /// Waits until `met` says so; it is asked again after every change.
    pub(super) async fn until(&self, met: impl Fn(&[Asked]) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Listen first, then look: a change in between must not be missed.
            changed.as_mut().enable();
            if met(&self.all()) {
                return;
            }
            changed.await;
        }
    }
}
