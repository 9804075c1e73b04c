//! The access log: a line for each finished request, as Apache's and nginx's "combined" format.
//!
//! Lines go through a bounded channel to a thread of its own: standard output may be a pipe that
//! nobody reads, and no request waits for that or fails over it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime};

use http::header::{REFERER, USER_AGENT};
use http::request::Parts;
use tokio::sync::oneshot;

/// The most lines that wait for the writer.
const LINES: usize = 4096;

/// How much of a path with its query, and of each header, is in a line, in bytes.
const TARGET: usize = 2048;
const HEADER: usize = 512;

/// How often a stop looks whether the writer takes its last message.
const AGAIN: Duration = Duration::from_millis(10);

/// Where the lines go. Cheap to clone.
#[derive(Clone, Default)]
pub struct AccessLog {
    inner: Option<Arc<Inner>>,
}

struct Inner {
    sender: SyncSender<Message>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    dropped: AtomicU64,
}

enum Message {
    Line(String),
    /// Nothing comes after this; the answer means that all is written.
    Last(oneshot::Sender<()>),
}

/// What is known of a request when it arrives.
pub(super) struct Entry {
    log: Arc<Inner>,
    head: String,
    tail: String,
}

impl AccessLog {
    /// No access log.
    pub fn none() -> Self {
        Self::default()
    }

    /// Lines on standard output, as Distribution writes them.
    ///
    /// # Errors
    /// The system's, if there is no further descriptor or thread.
    pub fn stdout() -> io::Result<Self> {
        // Rust's own handle writes line by line.
        let stdout = io::stdout().as_fd().try_clone_to_owned()?;
        Self::to(File::from(stdout))
    }

    /// Lines to any writer.
    ///
    /// # Errors
    /// The system's, if there is no further thread.
    pub fn to(writer: impl Write + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(LINES);
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write(&receiver, BufWriter::new(writer), &own))?;
        let inner = Some(Arc::new(Inner { sender, shared }));
        Ok(Self { inner })
    }

    /// How many lines were not written.
    pub fn dropped(&self) -> u64 {
        let dropped = |inner: &Arc<Inner>| inner.shared.dropped.load(Ordering::Relaxed);
        self.inner.as_ref().map_or(0, dropped)
    }

    /// Waits until what was logged is written, for at most `patience`.
    pub async fn stop(&self, patience: Duration) {
        let Some(inner) = &self.inner else {
            return;
        };
        let last = async {
            let (sender, written) = oneshot::channel();
            let mut message = Message::Last(sender);
            while let Err(TrySendError::Full(back)) = inner.sender.try_send(message) {
                message = back;
                tokio::time::sleep(AGAIN).await;
            }
            // An error means that the writer is gone, and with it what there was to wait for.
            let _ = written.await;
        };
        let written = tokio::time::timeout(patience, last).await.is_ok();
        let dropped = self.dropped();
        if !written || dropped > 0 {
            tracing::warn!(dropped, "lines of the access log were not written");
        }
    }

    /// Whether lines are written at all.
    pub(super) fn is_kept(&self) -> bool {
        self.inner.is_some()
    }

    /// Begins the line of a request, if lines are written at all.
    pub(super) fn entry(
        &self,
        parts: &Parts,
        client: SocketAddr,
        user: Option<&str>,
        now: SystemTime,
    ) -> Option<Entry> {
        let log = Arc::clone(self.inner.as_ref()?);
        let target = parts.uri.path_and_query().map_or("-", |it| it.as_str());
        let mut head = format!("{} - ", client.ip());
        escape(&mut head, user.unwrap_or_default().as_bytes(), HEADER, true);
        // Text takes in everything: these cannot fail.
        let _ = write!(head, " [{}] \"{} ", clf_date(now), parts.method);
        escape(&mut head, target.as_bytes(), TARGET, false);
        let _ = write!(head, " {:?}\"", parts.version);
        let mut tail = String::new();
        for name in [REFERER, USER_AGENT] {
            let value = parts.headers.get(name);
            let value = value.map(http::HeaderValue::as_bytes).unwrap_or_default();
            tail.push_str(" \"");
            escape(&mut tail, value, HEADER, false);
            tail.push('"');
        }
        tail.push('\n');
        Some(Entry { log, head, tail })
    }
}

impl Entry {
    /// Writes the line: the request is through.
    pub(super) fn finish(self, status: u16, bytes: u64) {
        let line = format!("{} {status} {bytes}{}", self.head, self.tail);
        if self.log.sender.try_send(Message::Line(line)).is_err() {
            self.log.shared.lost("nobody reads it fast enough");
        }
    }
}

impl Shared {
    /// Counts a line that is lost. The first is told of; how many there were, the stop tells.
    fn lost(&self, reason: &str) {
        if self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(
                reason,
                "the access log cannot be written: lines are dropped"
            );
        }
    }
}

/// Writes until the last message, or until nobody can send one any more.
fn write(messages: &Receiver<Message>, mut out: BufWriter<impl Write>, shared: &Shared) {
    while let Ok(first) = messages.recv() {
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Line(line) => {
                    if let Err(error) = out.write_all(line.as_bytes()) {
                        shared.lost(&error.to_string());
                    }
                }
                Message::Last(done) => {
                    if let Err(error) = out.flush() {
                        shared.lost(&error.to_string());
                    }
                    // Nobody waits any more: then nobody needs to know.
                    let _ = done.send(());
                    return;
                }
            }
            next = messages.try_recv().ok();
        }
        if let Err(error) = out.flush() {
            shared.lost(&error.to_string());
        }
    }
}

/// At most `limit` bytes of foreign text, on one line and without the end of its quotes: whatever
/// is not printable ASCII is `\xHH`, as are quotes and backslashes. `-` where there is none.
fn escape(line: &mut String, foreign: &[u8], limit: usize, word: bool) {
    if foreign.is_empty() {
        line.push('-');
    }
    for byte in &foreign[..foreign.len().min(limit)] {
        match byte {
            b'"' | b'\\' | ..b' ' | 0x7f.. => {
                // Cannot fail.
                let _ = write!(line, "\\x{byte:02X}");
            }
            b' ' if word => line.push_str("\\x20"),
            _ => line.push(char::from(*byte)),
        }
    }
}

/// `10/Oct/2000:13:55:36 +0000`
fn clf_date(time: SystemTime) -> String {
    // `Tue, 10 Oct 2000 13:55:36 GMT` has all of it.
    let date = httpdate::fmt_http_date(time);
    let mut words = date.split(' ').skip(1);
    let mut next = || words.next().unwrap_or_default();
    format!("{}/{}/{}:{} +0000", next(), next(), next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn parts(target: &str, agent: &[u8]) -> Parts {
        let request = http::Request::get(target).header(USER_AGENT, agent);
        request.body(()).unwrap().into_parts().0
    }

    fn client() -> SocketAddr {
        "10.0.0.1:999".parse().unwrap()
    }

    #[tokio::test]
    async fn a_line_is_apaches_combined_format() {
        let paper = Paper::default();
        let log = AccessLog::to(paper.clone()).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(971_186_136);
        let parts = parts("/v2/a/tags/list?n=1", b"docker/29 \"x\"\\\x80");
        let entry = log.entry(&parts, client(), Some("me too"), time).unwrap();
        entry.finish(200, 17);
        log.stop(Duration::from_secs(10)).await;
        let written = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            written,
            "10.0.0.1 - me\\x20too [10/Oct/2000:13:55:36 +0000] \
             \"GET /v2/a/tags/list?n=1 HTTP/1.1\" 200 17 \"-\" \"docker/29 \\x22x\\x22\\x5C\\x80\"\n"
        );
        assert_eq!(log.dropped(), 0);
    }

    #[tokio::test]
    async fn a_closed_output_costs_lines_and_nothing_else() {
        let log = AccessLog::to(Broken).unwrap();
        let parts = parts("/", b"x");
        for _ in 0..LINES * 2 {
            let entry = log.entry(&parts, client(), None, SystemTime::now());
            entry.unwrap().finish(200, 0);
        }
        log.stop(Duration::from_secs(10)).await;
        assert!(log.dropped() > 0);
    }

    proptest! {
        #[test]
        fn foreign_text_stays_one_quoted_word(foreign in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut line = String::new();
            escape(&mut line, &foreign, HEADER, false);
            prop_assert!(line.bytes().all(|byte| (b' '..0x7f).contains(&byte) && byte != b'"'));
            prop_assert!(!line.is_empty() && line.len() <= 4 * HEADER);
        }
    }
}
