//! Fetching images before anybody asks for them.
//!
//! One algorithm for `larder warm` and for `cache.warm`: from the reference to the manifest, from an
//! index to the manifests for the platforms wanted, from these to configs and layers. Everything is
//! asked for as a client's pull asks for it, so that it is filled, linked, resumed and noted as used
//! like any pull. Where it is asked is a [`Source`]'s business; when, is `schedule`'s.

mod schedule;
mod source;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::stream::{self, FuturesUnordered, StreamExt as _};
use tokio::sync::Semaphore;

use crate::oci::walk::{Ask, MAX_CONFIG};
use crate::oci::{
    Anatomy, Digest, Image, ImagePart, Platform, PlatformName, Reference, RepositoryName, Role,
    Walk, WalkError,
};

use super::{Error, Missing, Outcome};

pub use schedule::Warm;
use source::{Located, Manifest};
pub use source::{ServerError, Source};

/// How many images are looked into while layers are fetched: enough that there is always a layer
/// waiting for its turn.
const AHEAD: usize = 4;

/// What is to be fetched, and how.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// The images. One that comes twice is fetched once.
    pub images: Vec<Image>,
    /// What they are to run on. None: all that they come for.
    pub platforms: Vec<Platform>,
    /// How many layers are fetched at once, over all images; at least one.
    pub jobs: usize,
}

/// What happens, for those who show it. A part is known by its digest.
#[derive(Debug)]
pub enum News<'a> {
    /// It is known what an image consists of: these blobs.
    Known(&'a Image, &'a [ImagePart]),
    /// A blob is being fetched.
    Started(&'a Image, &'a ImagePart),
    /// So many more bytes of it have come.
    Moved(&'a ImagePart, u64),
    /// It has come, was here already, or did not come.
    Ended(&'a Image, &'a ImagePart, &'a Result<Kept, WarmError>),
    /// Nothing more happens to an image.
    Done(&'a Warmed),
}

/// How a blob came to be here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It was here.
    Already,
    /// It was fetched.
    Fetched,
}

/// An image that was to be fetched.
#[derive(Clone, Debug)]
pub struct Warmed {
    /// The image, as it was asked for.
    pub image: Image,
    /// What was done, also if not all of it could be.
    pub done: Tally,
    /// What was in the way, if something was.
    pub failure: Option<WarmError>,
    /// How long it took.
    pub took: Duration,
}

/// What was done for an image. What images of one run share counts for the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Blobs that were fetched, and their bytes.
    pub fetched: Count,
    /// Blobs that were here.
    pub here: Count,
    /// Whether somebody pushed it here: there is nothing to fetch then.
    pub is_local: bool,
    /// Whether the upstream could not be asked, so that this is what the tag was when it last
    /// could.
    pub is_stale: bool,
    /// What it runs on, where that is none of the platforms asked for and it comes for no other.
    pub other: Option<PlatformName>,
}

/// A number of things, and of the bytes they have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub number: usize,
    /// How many bytes.
    pub bytes: u64,
}

/// Why an image, or a part of it, did not come.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WarmError {
    /// Nobody pushed it, and its upstream has none.
    #[error("there is no {} in {}", wanted(.1), .0)]
    Unknown(RepositoryName, Missing),
    /// The registry says why.
    #[error(transparent)]
    Registry(Error),
    /// The server that was asked did not give it.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// Its manifests make no sense.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// It does not come for a platform.
    #[error("it does not come for {}: it comes for {}", list(.asked), list(.listed))]
    NotListed {
        /// What was asked for.
        asked: Vec<Platform>,
        /// What there is.
        listed: Vec<PlatformName>,
    },
    /// There was no room for it: it was passed through.
    #[error("there is no room for {0}: make some, or let larder use more of the disk")]
    NotKept(Digest),
    /// The bytes are not those of the digest.
    #[error("the server sent something else than {0}")]
    Damaged(Digest),
}

impl From<Error> for WarmError {
    fn from(error: Error) -> Self {
        match error {
            Error::Unknown { name, what } => Self::Unknown(name, what),
            error => Self::Registry(error),
        }
    }
}

/// What is wrong with a manifest that came, and is not here all the same.
fn not_kept(manifest: &Manifest) -> Option<WarmError> {
    let is_passed = manifest.outcome == Some(Outcome::Pass);
    is_passed.then(|| WarmError::NotKept(manifest.digest.clone()))
}

fn wanted(what: &Missing) -> String {
    match what {
        Missing::Manifest(Reference::Tag(tag)) => format!("tag {tag}"),
        Missing::Manifest(Reference::Digest(digest)) => format!("manifest {digest}"),
        Missing::Blob(digest) => format!("blob {digest}"),
        Missing::Tags | Missing::Referrers(_) => "such thing".to_owned(),
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    if items.is_empty() {
        return "nothing that it would name".to_owned();
    }
    items.join(", ")
}

/// Hears what happens.
pub type Listener<'a> = dyn Fn(News<'_>) + Send + Sync + 'a;

/// Fetches images, several at once. One that fails does not keep the others from coming. In the
/// order in which they were done.
pub async fn warm(source: &Source, wishes: &Wishes, listener: &Listener<'_>) -> Vec<Warmed> {
    let mut seen = HashSet::new();
    let is_new = |image: &&Image| seen.insert(image.to_string());
    let images: Vec<Image> = wishes.images.iter().filter(is_new).cloned().collect();
    let jobs = wishes.jobs.max(1);
    let run = Run {
        source,
        platforms: &wishes.platforms,
        listener,
        slots: Semaphore::new(jobs),
        turns: Mutex::default(),
        counted: Mutex::default(),
    };
    stream::iter(images)
        .map(|image| run.image(image))
        .buffer_unordered(jobs + AHEAD)
        .collect()
        .await
}

/// One run over all images.
struct Run<'a> {
    source: &'a Source,
    platforms: &'a [Platform],
    listener: &'a Listener<'a>,
    /// As many as layers may be fetched at once. Fair: who came first is first.
    slots: Semaphore,
    /// Who waits for a blob that another image is just fetching takes no slot meanwhile.
    turns: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    /// The blobs that are in somebody's tally.
    counted: Mutex<HashSet<Digest>>,
}

impl Run<'_> {
    async fn image(&self, image: Image) -> Warmed {
        let started = Instant::now();
        let mut done = Tally::default();
        let failure = self.fetch(&image, &mut done).await.err();
        let warmed = Warmed {
            image,
            done,
            failure,
            took: started.elapsed(),
        };
        (self.listener)(News::Done(&warmed));
        warmed
    }

    /// Fetches as much of an image as can be had; the first thing that could not is the error.
    async fn fetch(&self, image: &Image, done: &mut Tally) -> Result<(), WarmError> {
        let located = self.source.locate(image)?;
        done.is_local = located.is_local();
        let top = self.source.manifest(&located, &image.reference).await?;
        done.is_stale = top.outcome == Some(Outcome::Stale);
        let (anatomy, mut failure) = self.dissect(image, &located, top, done).await;
        done.other.clone_from(&anatomy.other);
        let blobs = anatomy.blobs();
        (self.listener)(News::Known(image, &blobs));
        let located = &located;
        let fetching = blobs.iter().map(|part| async move {
            let result = self.blob(image, located, part).await;
            (part, result)
        });
        let mut fetching: FuturesUnordered<_> = fetching.collect();
        while let Some((part, result)) = fetching.next().await {
            match result {
                Ok(kept) => self.count(part, kept, done),
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        if let Some(fault) = anatomy.fault {
            return Err(fault.into());
        }
        if anatomy.unlisted.is_empty() {
            return Ok(());
        }
        Err(WarmError::NotListed {
            asked: anatomy.unlisted,
            listed: anatomy.listed,
        })
    }

    /// Finds out what an image consists of. Its manifests are fetched on the way, and the configs
    /// that must tell what it runs on.
    async fn dissect(
        &self,
        image: &Image,
        located: &Located,
        top: Manifest,
        done: &mut Tally,
    ) -> (Anatomy, Option<WarmError>) {
        let mut failure = not_kept(&top);
        let mut walk = Walk::new(self.platforms, top.digest.clone());
        while let Some(ask) = walk.ask() {
            let seen = if ask.part.digest == top.digest {
                Ok(Some(top.bytes.clone()))
            } else if ask.role == Role::Config {
                self.config(image, located, &ask, done).await
            } else {
                let digest = Reference::Digest(ask.part.digest.clone());
                let manifest = self.source.manifest(located, &digest).await;
                manifest.map(|manifest| {
                    failure = failure.take().or_else(|| not_kept(&manifest));
                    Some(manifest.bytes)
                })
            };
            match seen {
                Ok(bytes) => walk.found(ask, bytes.as_deref()),
                Err(error) => {
                    failure.get_or_insert(error);
                    walk.found(ask, None);
                }
            }
        }
        (walk.finish(), failure)
    }

    async fn config(
        &self,
        image: &Image,
        located: &Located,
        ask: &Ask,
        done: &mut Tally,
    ) -> Result<Option<bytes::Bytes>, WarmError> {
        let part = ImagePart {
            role: Role::Config,
            part: ask.part.clone(),
            platform: None,
        };
        let kept = self.blob(image, located, &part).await?;
        self.count(&part, kept, done);
        let limit = usize::try_from(MAX_CONFIG).unwrap_or(usize::MAX);
        self.source.small_blob(located, &part.part, limit).await
    }

    /// Fetches one blob when its turn comes.
    async fn blob(
        &self,
        image: &Image,
        located: &Located,
        part: &ImagePart,
    ) -> Result<Kept, WarmError> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(part.part.digest.clone()).or_default())
        };
        let _turn = turn.lock().await;
        // Nobody closes the semaphore.
        let _slot = self.slots.acquire().await;
        (self.listener)(News::Started(image, part));
        let moved = |bytes| (self.listener)(News::Moved(part, bytes));
        let result = self.source.blob(located, &part.part, &moved).await;
        (self.listener)(News::Ended(image, part, &result));
        result
    }

    fn count(&self, part: &ImagePart, kept: Kept, done: &mut Tally) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if !counted.insert(part.part.digest.clone()) {
            return;
        }
        let count = match kept {
            Kept::Already => &mut done.here,
            Kept::Fetched => &mut done.fetched,
        };
        count.number += 1;
        count.bytes += part.part.size;
    }
}
