//! Passing on what cannot be stored: a full disk fails no pull.
//!
//! When a fill cannot stage, write, sync or commit, its readers do not fail with it. Each goes on
//! by itself: it reads what was written before from the file that the fill had open, and the rest
//! from the upstream, by Range. It hashes all of it from the first byte on, and withholds the end
//! of what was asked for until the digest is verified, as a fill does.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::OnceCell;

use crate::oci::{Digest, Hasher};
use crate::store::{Blob, StoreError};
use crate::upstream::{BlobStream, Upstream, UpstreamError};

use super::content::HELD_BACK;
use super::fill::MAX_UNSIZED;
use super::names::Mirror;
use super::{Error, Missing, Registry, blocking};

/// How much is read from the disk at a time, in bytes.
const READ: u64 = 256 * 1024;

/// How often the log says that what is fetched is not kept.
const SAID_EVERY: Duration = Duration::from_mins(1);

/// A blob that is passed on, for everybody who wanted it. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Passing(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    mirror: Mirror,
    upstream: Arc<Upstream>,
    digest: Digest,
    size: u64,
    /// What was written before, and how much of it.
    prefix: Option<(Blob, u64)>,
    /// The download that goes on from there, for whoever comes first.
    begun: Mutex<Option<BlobStream>>,
    /// All of it, where it is small.
    whole: OnceCell<Bytes>,
}

/// What there is to pass on.
pub(super) struct Rest {
    /// The size of the whole blob, where that is known.
    pub(super) size: Option<u64>,
    /// What was written before, and how much of it.
    pub(super) prefix: Option<(Blob, u64)>,
    /// The download that goes on from there.
    pub(super) begun: Option<BlobStream>,
}

impl Passing {
    /// Makes sure that the blob can be had, and finds out how large it is.
    pub(super) async fn begin(
        mirror: &Mirror,
        upstream: &Arc<Upstream>,
        digest: &Digest,
        rest: Rest,
    ) -> Result<Self, UpstreamError> {
        let prefix = rest.prefix.filter(|(_, written)| *written > 0);
        let from = prefix.as_ref().map_or(0, |(_, written)| *written);
        let (begun, size) = if let Some(size) = rest.size {
            (rest.begun, size)
        } else {
            let stream = match rest.begun {
                Some(stream) => stream,
                None => upstream.get_blob(&mirror.name, digest, from).await?,
            };
            measured(mirror, upstream, digest, stream, from).await?
        };
        Ok(Self(Arc::new(Inner {
            mirror: mirror.clone(),
            upstream: Arc::clone(upstream),
            digest: digest.clone(),
            size,
            prefix,
            begun: Mutex::new(begun),
            whole: OnceCell::new(),
        })))
    }

    pub(super) fn size(&self) -> u64 {
        self.0.size
    }

    /// Reads the bytes from `start` up to but not including `end`.
    pub(super) fn reader(&self, start: u64, end: u64) -> PassReader {
        PassReader {
            passing: self.clone(),
            hasher: Hasher::new(self.0.digest.algorithm()),
            position: 0,
            stream: None,
            next: start,
            end,
            waiting: VecDeque::new(),
            is_verified: false,
        }
    }

    /// All of it, verified, once for all who ask. For what is small.
    pub(super) async fn whole(&self) -> Result<Bytes, Error> {
        let whole = self.0.whole.get_or_try_init(|| self.read_whole()).await;
        whole.cloned()
    }

    async fn read_whole(&self) -> Result<Bytes, Error> {
        let (mut reader, mut whole) = (self.reader(0, self.0.size), BytesMut::new());
        while (whole.len() as u64) < self.0.size || !reader.is_verified {
            whole.extend_from_slice(&reader.next().await?);
        }
        Ok(whole.freeze())
    }

    /// The upstream's bytes from `from` on.
    async fn open(&self, from: u64) -> Result<BlobStream, Error> {
        let Inner {
            mirror,
            upstream,
            digest,
            ..
        } = &*self.0;
        let written = self.0.prefix.as_ref().map_or(0, |(_, written)| *written);
        if from == written {
            let mut begun = self.0.begun.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(stream) = begun.take() {
                return Ok(stream);
            }
        }
        let opened = upstream.get_blob(&mirror.name, digest, from).await;
        opened.map_err(|error| self.failure(error))
    }

    fn failure(&self, error: UpstreamError) -> Error {
        let what = Missing::Blob(self.0.digest.clone());
        self.0.mirror.failure(what, error)
    }

    fn misbehaved(&self, reason: &str) -> Error {
        let (name, digest) = (self.0.mirror.repository.name(), &self.0.digest);
        tracing::warn!(repository = %name, %digest, "passed on, but {reason}: the answer is cut");
        self.failure(UpstreamError::Misbehaved {
            reason: reason.to_owned(),
        })
    }
}

/// How large the blob is of which a download begins at `from`. Nobody can be answered before that
/// is known; if the upstream does not say, all of it is fetched only to be counted.
async fn measured(
    mirror: &Mirror,
    upstream: &Upstream,
    digest: &Digest,
    mut stream: BlobStream,
    from: u64,
) -> Result<(Option<BlobStream>, u64), UpstreamError> {
    if let Some(size) = stream.size() {
        return Ok((Some(stream), size));
    }
    if let Ok(size) = upstream.blob_size(&mirror.name, digest).await {
        return Ok((Some(stream), size));
    }
    let mut size = from;
    while let Some(bytes) = stream.next().await? {
        size += bytes.len() as u64;
        if size > MAX_UNSIZED {
            let reason = "a blob without end".to_owned();
            return Err(UpstreamError::Misbehaved { reason });
        }
    }
    Ok((None, size))
}

/// Reads a blob that is stored nowhere, at its own pace.
#[derive(Debug)]
pub(super) struct PassReader {
    passing: Passing,
    hasher: Hasher,
    /// How much of the blob has been taken in and hashed.
    position: u64,
    stream: Option<BlobStream>,
    /// The byte that goes out next.
    next: u64,
    end: u64,
    /// What was taken in and is to go out.
    waiting: VecDeque<Bytes>,
    is_verified: bool,
}

impl PassReader {
    /// The next bytes of those that were asked for. Not to be called when all are out.
    pub(super) async fn next(&mut self) -> Result<Bytes, Error> {
        loop {
            if let Some(bytes) = self.release() {
                return Ok(bytes);
            }
            if self.is_verified {
                // Only an empty blob comes here.
                return Ok(Bytes::new());
            }
            match self.take_in().await? {
                Some(bytes) => self.keep(bytes),
                None => self.verify()?,
            }
        }
    }

    /// What may go out by now.
    fn release(&mut self) -> Option<Bytes> {
        let limit = if self.is_verified {
            self.end
        } else {
            self.end.saturating_sub(HELD_BACK)
        };
        let allowed = usize::try_from(limit.saturating_sub(self.next)).unwrap_or(usize::MAX);
        let first = self.waiting.front_mut()?;
        if allowed == 0 {
            return None;
        }
        let bytes = first.split_to(allowed.min(first.len()));
        if first.is_empty() {
            self.waiting.pop_front();
        }
        self.next += bytes.len() as u64;
        Some(bytes)
    }

    /// Hashes the bytes at the position, and keeps those of them that were asked for.
    fn keep(&mut self, mut bytes: Bytes) {
        self.hasher.update(&bytes);
        let start = self.position;
        self.position += bytes.len() as u64;
        // What waits is in front of it: bytes come in order.
        let within = |place: u64| {
            let place = usize::try_from(place.saturating_sub(start)).unwrap_or(usize::MAX);
            place.min(bytes.len())
        };
        let (from, until) = (within(self.next), within(self.end));
        if from < until {
            bytes.truncate(until);
            self.waiting.push_back(bytes.split_off(from));
        }
    }

    /// The bytes at the position; `None` at the blob's end.
    async fn take_in(&mut self) -> Result<Option<Bytes>, Error> {
        if let Some(bytes) = self.read_prefix().await {
            return Ok(Some(bytes));
        }
        let size = self.passing.size();
        if self.stream.is_none() && self.position == size {
            return Ok(None);
        }
        let stream = match &mut self.stream {
            Some(stream) => stream,
            empty => empty.insert(self.passing.open(self.position).await?),
        };
        if stream.size().is_some_and(|now| now != size) {
            return Err(self.passing.misbehaved("its size is another than before"));
        }
        let next = stream.next().await;
        next.map_err(|error| self.passing.failure(error))
    }

    /// What was written before; `None` behind its end, or where the disk does not give it back.
    async fn read_prefix(&mut self) -> Option<Bytes> {
        let (blob, written) = self.passing.0.prefix.as_ref()?;
        if self.stream.is_some() || self.position >= *written {
            return None;
        }
        let (blob, offset) = (blob.clone(), self.position);
        let length = usize::try_from((written - offset).min(READ)).unwrap_or(usize::MAX);
        let read = tokio::task::spawn_blocking(move || blob.read_at(offset, length));
        let bytes = read.await.ok()?.ok()?;
        (!bytes.is_empty()).then(|| Bytes::from(bytes))
    }

    fn verify(&mut self) -> Result<(), Error> {
        if self.position != self.passing.size() {
            let reason = "it has another length than was announced";
            return Err(self.passing.misbehaved(reason));
        }
        if self.hasher.clone().finish() != self.passing.0.digest {
            let reason = "it does not hash to its digest";
            return Err(self.passing.misbehaved(reason));
        }
        self.is_verified = true;
        Ok(())
    }
}

/// How often something is tried again after room was made for it.
pub(super) const RETRIES: usize = 2;

/// The room that is asked for when something small does not fit, in bytes.
const SMALL: u64 = 1 << 20;

/// What was fetched and could not be kept.
#[derive(Default)]
pub(super) struct Passed {
    count: AtomicU64,
    said: Mutex<Option<Instant>>,
}

impl Passed {
    /// Counts one more, and says whether it is time to say so.
    fn note(&self, now: Instant) -> bool {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = said.is_none_or(|said| now.duration_since(said) >= SAID_EVERY);
        if is_time {
            *said = Some(now);
        }
        is_time
    }
}

/// Why something that was fetched is not kept.
pub(super) enum NotKept<'a> {
    /// No room was to be had for it.
    NoRoom,
    /// The store failed.
    Failed(&'a StoreError),
}

impl Registry {
    /// How many blobs and manifests were fetched and not kept since the start.
    pub fn passed(&self) -> u64 {
        self.inner.passed.count.load(Ordering::Relaxed)
    }

    /// Does something small in the store. If the disk is full, room is made and it is done again.
    pub(super) async fn keeping<T: Send + 'static>(
        &self,
        work: impl Fn() -> Result<T, StoreError> + Send + Sync + 'static,
    ) -> Result<T, Error> {
        let work = Arc::new(work);
        for _ in 0..RETRIES {
            let again = Arc::clone(&work);
            match blocking(move || again()).await {
                Err(Error::Store(error))
                    if matches!(*error, StoreError::Full(_)) && self.make_room(SMALL).await => {}
                done => return done,
            }
        }
        blocking(move || work()).await
    }

    /// Takes note that something was fetched and is not kept. The log says so once a minute.
    pub(super) fn not_kept(&self, mirror: &Mirror, digest: &Digest, why: &NotKept<'_>) {
        let (repository, count) = (mirror.repository.name(), self.passed() + 1);
        let (cause, advice) = match why {
            NotKept::NoRoom => (
                "there is no room for it".to_owned(),
                "make room on the disk, or allow more with cache.maxsize and cache.minfree",
            ),
            NotKept::Failed(error) => (error.to_string(), advice(error)),
        };
        if self.inner.passed.note(Instant::now()) {
            tracing::warn!(%repository, %digest, count, "passed on, but not kept: {cause}. To do: {advice}");
        } else {
            tracing::debug!(%repository, %digest, count, "passed on, but not kept: {cause}");
        }
    }
}

fn advice(error: &StoreError) -> &'static str {
    match error {
        StoreError::Full(_) => {
            "make room on the disk (space, inodes or a quota: see df and df -i), or let cache.maxsize keep some free"
        }
        StoreError::ReadOnly(_) => {
            "make the file system writable; if it became read-only by itself, look into the system's log"
        }
        StoreError::Failing(_) => "look into the system's log: the disk may have to be replaced",
        StoreError::Exhausted(_) => {
            "raise the limit of open files (LimitNOFILE= of a systemd unit, --ulimit nofile= of docker, ulimit -n), or lower http.connections"
        }
        StoreError::Damaged(_) | StoreError::WrongKind(..) | StoreError::Io(_) => {
            "see that larder's user may write to its data directory"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_a_minute_and_counted_each_time() {
        let (passed, now) = (Passed::default(), Instant::now());
        let said =
            [0, 1, 59, 60, 61, 119, 120].map(|at| passed.note(now + Duration::from_secs(at)));
        assert_eq!(said, [true, false, false, true, false, false, true]);
        assert_eq!(passed.count.load(Ordering::Relaxed), 7);
    }
}
