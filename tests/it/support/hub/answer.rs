//! From what is to be answered to the bytes on the wire, and what faults do to both.

use std::io::{self, Write as _};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::fault::{Strike, What};
use super::log::{Asked, Listener, Request};
use super::server::Wire;
use super::{State, lock, registry};

/// Bodies go out in pieces of this size, so that the log can be watched growing.
const PIECE: usize = 64 * 1024;

/// What is answered, before anybody thinks about lengths and chunks.
#[derive(Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
    /// Where in the whole content the body begins.
    pub(super) first: usize,
}

impl Reply {
    pub(super) fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
            first: 0,
        }
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn body(mut self, media_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.with("content-type", media_type)
    }

    /// An error as the specification words it.
    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        let json = serde_json::json!({"errors": [{"code": code, "message": message}]});
        Self::new(status).body("application/json", json.to_string())
    }

    fn remove(&mut self, name: &str) {
        self.headers.retain(|(key, _)| key != name);
    }

    fn replace(&mut self, name: &str, value: impl Into<String>) {
        self.remove(name);
        self.headers.push((name.to_owned(), value.into()));
    }

    fn flip(&mut self, offset: usize) {
        let mut bytes = self.body.to_vec();
        let at = offset.checked_sub(self.first);
        if let Some(byte) = at.and_then(|at| bytes.get_mut(at)) {
            *byte ^= 1;
        }
        self.body = bytes.into();
    }

    fn gzip(&mut self) {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let packed = gzip.write_all(&self.body).and_then(|()| gzip.finish());
        self.body = packed.expect("writing to memory").into();
        self.replace("content-encoding", "gzip");
    }

    fn shift_range(&mut self) {
        let first = self.first + 1;
        let last = self.first + self.body.len();
        let range = self.headers.iter().find(|(key, _)| key == "content-range");
        let size = range.and_then(|(_, range)| range.split('/').nth(1));
        let range = format!("bytes {first}-{last}/{}", size.unwrap_or("*"));
        self.replace("content-range", range);
    }

    fn head(&self, framing: &str) -> String {
        let reason = match self.status {
            200 => "OK",
            206 => "Partial Content",
            307 => "Temporary Redirect",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            429 => "Too Many Requests",
            500 => "Internal Server Error",
            503 => "Service Unavailable",
            _ => "Whatever",
        };
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", self.status);
        for (name, value) in &self.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head + framing + "\r\n"
    }
}

/// A place to stop at while answering.
enum Halt {
    Pause(Duration),
    Stall,
    Reset,
    Close,
    Gate(watch::Receiver<bool>),
}

/// How an answer gets onto the wire.
#[derive(Default)]
struct Delivery {
    before: Vec<Halt>,
    /// The pause after each byte of the head.
    letters: Option<Duration>,
    chunked: bool,
    off_by: i64,
    extra: usize,
    endless: bool,
    stops: Vec<(usize, Halt)>,
    rate: Option<Pacer>,
}

/// Answers one request; an error means that the connection is over.
pub(super) async fn answer(state: &State, wire: &mut Wire, asked: &Asked) -> io::Result<()> {
    let mut reply = registry::route(state, asked, asked.header("range"));
    let mut delivery = Delivery::default();
    let strike = lock(&state.faults).strike(asked, &reply);
    if let Some(Strike { what, gate }) = strike {
        if what.iter().any(|what| matches!(what, What::IgnoreRange)) {
            reply = registry::route(state, asked, None);
        }
        for what in what {
            bend(what, asked, &mut reply, &mut delivery, &gate);
        }
    }
    delivery.stops.sort_by_key(|(at, _)| *at);
    let shared = state.config.link.as_ref();
    let link = shared.filter(|_| asked.listener != Listener::Token);
    Sending {
        state,
        wire,
        asked,
        link,
        delivery,
    }
    .run(&reply)
    .await
}

/// What one fault does to the answer and to its way.
fn bend(
    what: What,
    request: &Request,
    reply: &mut Reply,
    delivery: &mut Delivery,
    gate: &watch::Receiver<bool>,
) {
    match what {
        What::Status(status, headers, body) => *reply = other(status, headers, body),
        What::Body(body) => reply.body = body.into(),
        What::Header(name, value) => reply.headers.push((name.to_owned(), value)),
        What::OtherHeader(name, value) => reply.replace(name, value),
        What::Challenge(lines) => *reply = challenge(lines),
        What::Html => *reply = portal(),
        What::Redirect(status, to) => *reply = Reply::new(status).with("location", to),
        What::RedirectLoop => *reply = Reply::new(307).with("location", address(request)),
        What::WrongDigestHeader => {
            reply.replace(
                "docker-content-digest",
                super::super::image::sha256(b"other"),
            );
        }
        What::NoDigestHeader => reply.remove("docker-content-digest"),
        What::NoContentType => reply.remove("content-type"),
        What::FlipBit(offset) => reply.flip(offset),
        What::Gzip => reply.gzip(),
        // Done already: it changes what is routed.
        What::IgnoreRange => {}
        What::WrongContentRange => reply.shift_range(),
        What::Delay(pause) => delivery.before.push(Halt::Pause(pause)),
        What::StallHeaders => delivery.before.push(Halt::Stall),
        What::CloseBeforeAnswer => delivery.before.push(Halt::Close),
        What::Gate(None) => delivery.before.push(Halt::Gate(gate.clone())),
        What::HeadersByteByByte(pause) => delivery.letters = Some(pause),
        What::StallAfter(at) => delivery.stops.push((at, Halt::Stall)),
        What::ResetAfter(at) => delivery.stops.push((at, Halt::Reset)),
        What::TruncateAfter(at) => delivery.stops.push((at, Halt::Close)),
        What::Gate(Some(at)) => delivery.stops.push((at, Halt::Gate(gate.clone()))),
        What::NoLength => delivery.chunked = true,
        What::WrongLength(by) => delivery.off_by = by,
        What::ExtraBytes(extra) => (delivery.chunked, delivery.extra) = (true, extra),
        What::Endless => (delivery.chunked, delivery.endless) = (true, true),
        What::Rate(rate) => delivery.rate = Some(Pacer::new(rate)),
    }
}

fn other(status: u16, headers: &[(&str, &str)], body: &'static str) -> Reply {
    let mut reply = Reply::new(status);
    for (name, value) in headers {
        reply = reply.with(name, *value);
    }
    reply.body = Bytes::from_static(body.as_bytes());
    reply
}

fn challenge(lines: Vec<String>) -> Reply {
    let reply = Reply::error(401, "UNAUTHORIZED", "authentication required");
    lines
        .into_iter()
        .fold(reply, |reply, line| reply.with("www-authenticate", line))
}

fn portal() -> Reply {
    let page = "<!doctype html><title>Welcome to Hotel Wi-Fi</title><p>Please log in.";
    Reply::new(200).body("text/html; charset=utf-8", page)
}

fn address(request: &Request) -> String {
    let host = request.header("host").unwrap_or_default();
    format!("http://{host}{}?{}", request.path, request.query)
}

/// One answer on its way.
struct Sending<'a> {
    state: &'a State,
    wire: &'a mut Wire,
    asked: &'a Asked,
    link: Option<&'a Pacer>,
    delivery: Delivery,
}

impl Sending<'_> {
    async fn run(mut self, reply: &Reply) -> io::Result<()> {
        for halt in std::mem::take(&mut self.delivery.before) {
            self.halt(halt).await?;
        }
        let bodyless = self.asked.method == "HEAD";
        let head = reply.head(&self.framing(bodyless, reply.body.len()));
        self.state.log.answered(self.asked, reply.status);
        self.send_head(head.as_bytes()).await?;
        if bodyless {
            Ok(())
        } else {
            self.send_body(&reply.body).await
        }
    }

    fn framing(&self, bodyless: bool, length: usize) -> String {
        match (self.delivery.chunked, bodyless) {
            (false, _) => {
                let length = i64::try_from(length).expect("a length") + self.delivery.off_by;
                format!("content-length: {length}\r\n")
            }
            (true, false) => "transfer-encoding: chunked\r\n".to_owned(),
            (true, true) => String::new(),
        }
    }

    async fn send_head(&mut self, head: &[u8]) -> io::Result<()> {
        let Some(pause) = self.delivery.letters else {
            return self.wire.send(head).await;
        };
        for letter in head.chunks(1) {
            self.wire.send(letter).await?;
            self.wire.wait(sleep(pause)).await?;
        }
        Ok(())
    }

    async fn send_body(&mut self, body: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        for (at, halt) in std::mem::take(&mut self.delivery.stops) {
            let stop = at.clamp(sent, body.len().max(sent));
            self.send_bytes(&body[sent..stop]).await?;
            sent = stop;
            self.halt(halt).await?;
        }
        self.send_bytes(&body[sent..]).await?;
        self.send_bytes(&vec![b'x'; self.delivery.extra]).await?;
        while self.delivery.endless {
            self.send_bytes(body).await?;
        }
        if self.delivery.chunked {
            self.wire.send(b"0\r\n\r\n").await?;
        }
        // After a length that was not true there is no telling where the next answer begins.
        if self.delivery.off_by == 0 {
            Ok(())
        } else {
            Err(self.wire.finish().await)
        }
    }

    async fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let own = self.delivery.rate.as_ref();
        let pacers = [self.link, own].into_iter().flatten();
        let piece = pacers.map(Pacer::piece).min().unwrap_or(PIECE);
        for piece in bytes.chunks(piece) {
            self.pace(piece.len()).await?;
            if self.delivery.chunked {
                let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
                chunk.extend_from_slice(piece);
                chunk.extend_from_slice(b"\r\n");
                self.wire.send(&chunk).await?;
            } else {
                self.wire.send(piece).await?;
            }
            self.state.log.sent(self.asked, piece.len());
        }
        Ok(())
    }

    async fn pace(&mut self, bytes: usize) -> io::Result<()> {
        for pacer in [self.link, self.delivery.rate.as_ref()]
            .into_iter()
            .flatten()
        {
            let due = pacer.book(bytes);
            if due > Instant::now() {
                self.wire.wait(sleep_until(due)).await?;
            }
        }
        Ok(())
    }

    async fn halt(&mut self, halt: Halt) -> io::Result<()> {
        match halt {
            Halt::Pause(pause) => self.wire.wait(sleep(pause)).await,
            Halt::Stall => Err(self.wire.hung_up().await),
            Halt::Reset => Err(self.wire.reset().await),
            Halt::Close => Err(self.wire.finish().await),
            Halt::Gate(mut gate) => {
                // The gate outlives its fault, so the sender cannot be gone before the hub is.
                self.wire.wait(gate.wait_for(|open| *open)).await?.ok();
                Ok(())
            }
        }
    }
}

/// Spreads bytes over time, for one answer or for a link that many share.
pub(super) struct Pacer {
    /// Bytes per second.
    rate: u64,
    /// When the link is free again.
    free: Mutex<Instant>,
}

impl Pacer {
    /// Timers wake late by a millisecond or so; as much may be caught up with.
    const CREDIT: Duration = Duration::from_millis(10);

    pub(super) fn new(rate: u64) -> Self {
        Self {
            rate,
            free: Mutex::new(Instant::now()),
        }
    }

    /// Small enough that a slow body still moves, big enough for few timers.
    fn piece(&self) -> usize {
        usize::try_from(self.rate / 250)
            .unwrap_or(PIECE)
            .clamp(1, PIECE)
    }

    /// Takes the next slot of that many bytes and says when it is over.
    fn book(&self, bytes: usize) -> Instant {
        let mut free = lock(&self.free);
        let earliest = Instant::now().checked_sub(Self::CREDIT).unwrap_or(*free);
        let taken = Duration::from_nanos(bytes as u64 * 1_000_000_000 / self.rate.max(1));
        *free = (*free).max(earliest) + taken;
        *free
    }
}
