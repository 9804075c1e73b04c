//! Fills: one download of a blob, for all who wait for it.
//!
//! A fill writes and hashes what the upstream sends, and says how far it is; every reader has the
//! same open file and its own offset. Five rules, each from a way this goes wrong:
//!
//! 1. readers share the fill's file handle: opened by name, it could be another file by then;
//! 2. under the table's lock the store is looked at once more: the last fill may just have ended;
//! 3. the guard that cleans the table exists before the task is spawned;
//! 4. the table is cleaned before the end is announced;
//! 5. a fill that vanishes without a word has failed: it is not an end.
//!
//! What cannot be stored is passed on: see `pass`.

mod now;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use futures_util::stream;
use tokio::sync::watch;

use crate::metrics::{FillEnd, Filling};
use crate::oci::{Digest, RepositoryName};
use crate::store::{Blob, Staged, StoreError};
use crate::upstream::{BlobStream, Upstream, UpstreamError};

use super::belief::if_readable;
use super::content::{BlobContent, HELD_BACK, Progress};
use super::followers::Followers;
use super::names::Mirror;
use super::pace::Pace;
use super::pass::{NotKept, Passing, Rest};
use super::pour::pour;
use super::{Error, Missing, Registry, blocking};

/// The most that is taken from an upstream that does not say how much it will send.
pub(super) const MAX_UNSIZED: u64 = 64 << 30;

/// A download under way.
#[derive(Debug)]
pub(super) struct Fill {
    /// For which repository the upstream was asked.
    pub(super) source: RepositoryName,
    upstream: String,
    since: SystemTime,
    progress: watch::Receiver<Progress>,
    followers: Followers,
}

/// The fills under way, by what they fetch.
#[derive(Clone, Default)]
pub(super) struct Fills {
    running: Arc<Mutex<HashMap<Digest, Arc<Fill>>>>,
}

/// What there is for one who needs a blob.
pub(super) enum Claim {
    /// It has come meanwhile.
    Stored(Blob),
    /// Its data is here, but not this repository's yet.
    Unlinked,
    /// Another has already started to fetch it.
    Running(Arc<Fill>),
    /// A fill was started for it.
    Started(Arc<Fill>),
}

/// How a fill ended well.
#[derive(Clone)]
pub(super) enum End {
    /// It is stored.
    Stored(Blob),
    /// It can be had, but not stored.
    Passing(Passing),
}

impl Fill {
    /// Waits until the fill knows what it is going to deliver, or has failed.
    pub(super) async fn content(&self) -> Result<BlobContent, Error> {
        let follower = self.followers.one();
        let mut progress = self.progress.clone();
        let known = |progress: &Progress| !matches!(progress, Progress::Opening);
        let state = progress.wait_for(known).await;
        let state = state.map_err(|_| Error::Vanished)?.clone();
        match state {
            Progress::Receiving { content, .. } => {
                if content.size() <= HELD_BACK {
                    return self.small().await;
                }
                Ok(BlobContent::unverified(content, progress).followed(follower))
            }
            Progress::Committed(blob) => Ok(BlobContent::stored(blob)),
            Progress::Passing(passing) if passing.size() <= HELD_BACK => self.small().await,
            Progress::Passing(passing) => Ok(BlobContent::passing(passing)),
            Progress::Failed(error) => Err(error),
            Progress::Opening => Err(Error::Vanished),
        }
    }

    /// How many answers wait for it or are read from it.
    pub(super) fn followers(&self) -> usize {
        self.followers.count()
    }

    /// Content that is too small to be announced before it is verified.
    async fn small(&self) -> Result<BlobContent, Error> {
        match self.ended().await? {
            End::Stored(blob) => Ok(BlobContent::stored(blob)),
            End::Passing(passing) => passing.whole().await.map(BlobContent::memory),
        }
    }

    /// Waits for the end.
    pub(super) async fn ended(&self) -> Result<End, Error> {
        let mut progress = self.progress.clone();
        let goes_on = |progress: &Progress| {
            matches!(progress, Progress::Opening | Progress::Receiving { .. })
        };
        let state = progress.wait_for(|progress| !goes_on(progress)).await;
        match &*state.map_err(|_| Error::Vanished)? {
            Progress::Committed(blob) => Ok(End::Stored(blob.clone())),
            Progress::Passing(passing) => Ok(End::Passing(passing.clone())),
            Progress::Failed(error) => Err(error.clone()),
            Progress::Opening | Progress::Receiving { .. } => Err(Error::Vanished),
        }
    }
}

impl Fills {
    /// What is being fetched, and for which repositories.
    pub(super) fn running(&self) -> Vec<(RepositoryName, Digest)> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let fills = running.iter();
        fills
            .map(|(digest, fill)| (fill.source.clone(), digest.clone()))
            .collect()
    }
}

impl Registry {
    /// Joins the fill of a blob, or starts one.
    pub(super) fn claim_fill(
        &self,
        mirror: &Mirror,
        upstream: &Arc<Upstream>,
        digest: &Digest,
    ) -> Result<Claim, StoreError> {
        let fills = &self.inner.fills;
        let mut running = fills.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fill) = running.get(digest) {
            return Ok(Claim::Running(Arc::clone(fill)));
        }
        // A few looks at the disk under the lock: only misses come here, and only so can nothing
        // slip in between the end of the last fill and the start of this one.
        if let Some(blob) = if_readable(mirror.repository.blob(digest))?.flatten() {
            return Ok(Claim::Stored(blob));
        }
        if if_readable(self.inner.store.has_data(digest))? == Some(true) {
            return Ok(Claim::Unlinked);
        }
        let (sender, receiver) = watch::channel(Progress::Opening);
        let fill = Arc::new(Fill {
            source: mirror.repository.name().clone(),
            upstream: upstream.name().to_owned(),
            since: SystemTime::now(),
            progress: receiver,
            followers: Followers::default(),
        });
        running.insert(digest.clone(), Arc::clone(&fill));
        let entry = Entry {
            fills: fills.clone(),
            digest: digest.clone(),
        };
        let task = Task {
            registry: self.clone(),
            mirror: mirror.clone(),
            upstream: Arc::clone(upstream),
            digest: digest.clone(),
            progress: sender,
        };
        self.inner.tasks.spawn(task.run(entry));
        Ok(Claim::Started(fill))
    }
}

/// Takes the fill out of the table, however it ends.
struct Entry {
    fills: Fills,
    digest: Digest,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut running = self
            .fills
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        running.remove(&self.digest);
    }
}

/// A fill at work.
struct Task {
    registry: Registry,
    mirror: Mirror,
    upstream: Arc<Upstream>,
    digest: Digest,
    progress: watch::Sender<Progress>,
}

impl Task {
    async fn run(self, entry: Entry) {
        let started = Instant::now();
        let source = self.registry.metrics().upstream(self.upstream.name());
        let mut filling = source.filling();
        // Not to be carried about in the task's own state while it waits.
        let result = Box::pin(self.fetch()).await;
        self.ended(&mut filling, &result, started);
        drop(filling);
        drop(entry);
        self.progress.send_replace(match result {
            Ok(End::Stored(blob)) => Progress::Committed(blob),
            Ok(End::Passing(passing)) => Progress::Passing(passing),
            Err(error) => Progress::Failed(error),
        });
    }

    /// Says how it went.
    fn ended(&self, filling: &mut Filling, result: &Result<End, Error>, started: Instant) {
        let (name, digest) = (self.mirror.repository.name(), &self.digest);
        let (upstream, pace) = (self.upstream.name(), Pace::since(started));
        let seconds = pace.seconds;
        match result {
            Ok(End::Stored(blob)) => {
                filling.ends(FillEnd::Stored);
                let (bytes, speed) = (blob.size(), pace.of(blob.size()));
                tracing::info!(repository = %name, %digest, upstream, bytes, seconds, speed, "filled");
            }
            // It has been said why.
            Ok(End::Passing(_)) => filling.ends(FillEnd::Passed),
            Err(error) => {
                tracing::warn!(repository = %name, %digest, upstream, seconds, %error, "fill failed");
            }
        }
    }

    /// From what an earlier attempt left on disk to a stored, linked blob.
    async fn fetch(&self) -> Result<End, Error> {
        let mut staged = match self.stage().await {
            Ok(staged) => staged,
            Err(error) => return self.pass(None, None, None, error).await,
        };
        if staged.written() > 0 {
            let digest = self.digest.clone();
            let matched = blocking(move || staged.matches(&digest).map(|same| (staged, same)));
            let (back, complete) = matched.await?;
            if complete {
                return self.commit(back).await;
            }
            staged = back;
        }
        let stream = match self.open(&mut staged).await {
            Ok(stream) => stream,
            Err(error) => return self.give_up(staged, None, error).await,
        };
        self.receive(staged, stream).await
    }

    async fn stage(&self) -> Result<Staged, Error> {
        let (store, digest) = (self.registry.inner.store.clone(), self.digest.clone());
        self.registry
            .keeping(move || store.stage_fill(&digest))
            .await
    }

    /// Asks the upstream for what is still missing. A part that the upstream cannot go on from is
    /// thrown away, and all of it is asked for.
    async fn open(&self, staged: &mut Staged) -> Result<BlobStream, Error> {
        let (name, digest) = (&self.mirror.name, &self.digest);
        let from = staged.written();
        if from > 0 {
            match self.upstream.get_blob(name, digest, from).await {
                Ok(stream) if stream.size().is_none_or(|size| size >= from) => {
                    tracing::info!(repository = %self.mirror.repository.name(), %digest, from, "fill resumed");
                    return Ok(stream);
                }
                Ok(_) | Err(UpstreamError::Misbehaved { .. }) => {}
                Err(error) => return Err(self.failed(error)),
            }
            staged
                .restart()
                .map_err(|error| Error::Store(error.into()))?;
        }
        let opened = self.upstream.get_blob(name, digest, 0).await;
        opened.map_err(|error| self.failed(error))
    }

    async fn receive(&self, staged: Staged, stream: BlobStream) -> Result<End, Error> {
        let size = stream.size();
        tracing::info!(
            repository = %self.mirror.repository.name(), digest = %self.digest,
            upstream = self.upstream.name(), bytes = size, from = staged.written(), "fill begun"
        );
        let missing = size.unwrap_or(0).saturating_sub(staged.written());
        let Some(reserved) = self.registry.reserve(missing).await else {
            self.note(&NotKept::NoRoom);
            return self.pass_on(Some(staged), Some(stream), size).await;
        };
        let already = staged.written();
        let announce = |content: &Blob, written| Progress::Receiving {
            content: content.clone(),
            written,
        };
        let content = size.map(|size| staged.reader(size));
        if let Some(content) = &content {
            self.progress
                .send_replace(announce(content, staged.written()));
        }
        let source = stream::try_unfold(
            (stream, staged.written()),
            |(mut stream, so_far)| async move {
                let next = stream.next().await.map_err(|error| self.failed(error))?;
                let Some(bytes) = next else { return Ok(None) };
                let so_far = so_far + bytes.len() as u64;
                if size.is_none() && so_far > MAX_UNSIZED {
                    return Err(self.misbehaved("sends a blob without end"));
                }
                Ok(Some((bytes, (stream, so_far))))
            },
        );
        let (staged, poured) = pour(&self.registry, staged, source, |written| {
            reserved.arrived(written.saturating_sub(already));
            if let Some(content) = &content {
                self.progress.send_replace(announce(content, written));
            }
        })
        .await;
        let staged = staged.ok_or(Error::Vanished)?;
        match poured {
            Ok(()) => self.verify(staged, size).await,
            Err(error) => self.give_up(staged, size, error).await,
        }
    }

    /// The verdict: only what hashes to its name is stored.
    async fn verify(&self, mut staged: Staged, size: Option<u64>) -> Result<End, Error> {
        if size.is_some_and(|size| size != staged.written()) {
            let error = self.misbehaved("sent another length than it announced");
            self.discard(staged).await;
            return Err(error);
        }
        let digest = self.digest.clone();
        let matched = blocking(move || staged.matches(&digest).map(|same| (staged, same)));
        match matched.await? {
            (staged, true) => self.commit(staged).await,
            (staged, false) => {
                let error = self.misbehaved("sent content that does not hash to its digest");
                self.discard(staged).await;
                Err(error)
            }
        }
    }

    async fn commit(&self, staged: Staged) -> Result<End, Error> {
        let staged = Arc::new(staged);
        let (repository, digest) = (self.mirror.repository.clone(), self.digest.clone());
        let shared = Arc::clone(&staged);
        let committed = self
            .registry
            .keeping(move || repository.commit_blob(&shared, &digest))
            .await;
        let size = staged.written();
        let stored = staged.reader(size);
        // Nobody else has it any more.
        let staged = Arc::into_inner(staged);
        match committed {
            Ok(()) => Ok(End::Stored(stored)),
            Err(error) => match staged {
                Some(staged) => self.pass(Some(staged), None, Some(size), error).await,
                None => Err(error),
            },
        }
    }

    /// After a failure. If it is the disk's, the blob can be had all the same; else what has come
    /// is kept for the next attempt, unless there is nothing.
    async fn give_up(&self, staged: Staged, size: Option<u64>, error: Error) -> Result<End, Error> {
        if matches!(&error, Error::Store(_)) {
            return self.pass(Some(staged), None, size, error).await;
        }
        if staged.written() == 0 {
            self.discard(staged).await;
        }
        Err(error)
    }

    /// After the store has failed: what cannot be kept is passed on.
    async fn pass(
        &self,
        staged: Option<Staged>,
        begun: Option<BlobStream>,
        size: Option<u64>,
        error: Error,
    ) -> Result<End, Error> {
        match &error {
            Error::Store(cause) if cause.keeps_nothing() => self.note(&NotKept::Failed(cause)),
            _ => {
                if let Some(staged) = staged {
                    self.discard(staged).await;
                }
                return Err(error);
            }
        }
        self.pass_on(staged, begun, size).await
    }

    async fn pass_on(
        &self,
        staged: Option<Staged>,
        begun: Option<BlobStream>,
        size: Option<u64>,
    ) -> Result<End, Error> {
        let prefix = match staged {
            // Its readers keep it open; on the disk it is only in the way.
            Some(staged) => {
                let written = staged.written();
                let reader = staged.reader(written);
                self.discard(staged).await;
                Some((reader, written))
            }
            None => None,
        };
        let rest = Rest {
            size,
            prefix,
            begun,
        };
        let passing = Passing::begin(&self.mirror, &self.upstream, &self.digest, rest);
        passing
            .await
            .map(End::Passing)
            .map_err(|error| self.failed(error))
    }

    fn note(&self, why: &NotKept<'_>) {
        self.registry.not_kept(&self.mirror, &self.digest, why);
    }

    async fn discard(&self, staged: Staged) {
        if let Err(failure) = blocking(move || staged.discard()).await {
            tracing::debug!(digest = %self.digest, %failure, "a failed fill's part could not be removed");
        }
    }

    fn failed(&self, error: UpstreamError) -> Error {
        let what = Missing::Blob(self.digest.clone());
        self.registry.refused(&self.mirror, what, error)
    }

    fn misbehaved(&self, reason: &str) -> Error {
        self.failed(UpstreamError::Misbehaved {
            reason: reason.to_owned(),
        })
    }
}
