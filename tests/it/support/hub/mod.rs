//! The hub: a real upstream registry on loopback, with its token service and its CDN host,
//! whose faults are data and which remembers what it was asked.
//!
//! It speaks HTTP/1.1 by hand, because a test wants to choose every byte: a wrong length, a
//! reset in the middle of a blob, a header that never comes. It must not know larder: it is
//! also the upstream of the benchmark and of real clients.
//!
//! Read [`Hub`], then [`fault`]; `registry` and `token` decide what is answered, `answer` how it
//! gets onto the wire.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "test support: what cannot be set up must fail the test"
)]

mod answer;
mod content;
mod fault;
mod handle;
mod log;
mod registry;
mod server;
mod tasks;
mod token;

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard};

pub(crate) use fault::{Fault, FaultId, What, Where};
pub(crate) use handle::{Builder, Hub};
pub(crate) use log::{Asked, Kind, Listener};
pub(crate) use token::TokenShape;

/// How the registry wants its readers to identify themselves.
#[derive(Clone, Debug, Default)]
enum Auth {
    #[default]
    None,
    /// The value of the only `Authorization` header that is let in.
    Basic(String),
    Bearer,
}

/// What does not change between `start` and the end.
#[derive(Default)]
struct Config {
    auth: Auth,
    cdn: bool,
    /// Lists referrers, a page of so many at a time; without it there is no such endpoint.
    referrers: Option<usize>,
    /// The `Authorization` header that opens private repositories at the token service.
    credentials: Option<String>,
    link: Option<answer::Pacer>,
}

/// What the handle and every connection share.
struct State {
    config: Config,
    addresses: [SocketAddr; 3],
    content: Mutex<content::Content>,
    tokens: Mutex<token::Tokens>,
    faults: Mutex<fault::Faults>,
    log: log::Log,
    connections: AtomicUsize,
    tasks: tasks::Tasks,
}

impl State {
    fn address(&self, listener: Listener) -> SocketAddr {
        self.addresses[listener as usize]
    }
}

/// Takes a lock; a panic elsewhere has its own way of being reported.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The value of an `Authorization: Basic` header.
fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    let pair = format!("{user}:{password}");
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(pair)
    )
}

/// The state as connections hold it.
type Shared = Arc<State>;
