//! The policy: which repository is meant, what is fetched, when it is fresh, who may change what.
//!
//! This is where the store and the upstreams meet; neither knows of the other. Nothing here knows
//! of HTTP: what it returns is content and outcomes, and errors that say what a caller can act on.
//!
//! Reading order: `names` (which repository), `pull` (manifests and blobs), `fill` (one download
//! for all who wait), `pass` (what becomes of it on a full disk), `belief` (what is stored is
//! verified before it is served), `push`.

mod adopt;
mod belief;
mod collect;
mod content;
mod error;
mod evict;
mod fill;
mod flight;
mod freshness;
mod holds;
mod index;
mod inspect;
mod keeping;
mod listing;
mod manifests;
mod marks;
mod measured;
mod memory;
mod names;
mod pace;
mod pass;
mod pour;
mod pull;
mod push;
mod referrers;
mod room;
mod standing;
mod sweep;
mod upstreams;
mod validation;
mod warm;
mod warming;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::Metrics;
use crate::oci::{Digest, Image};
use crate::store::{Store, StoreError};
use crate::upstream::Upstream;

pub use crate::metrics::Outcome;
pub use collect::Collecting;
pub use content::{BlobContent, BlobReader, FilePart, Part};
pub use error::{Error, Missing};
pub use evict::Usage;
pub use holds::HoldError;
pub use index::Changed;
pub use inspect::{Inspected, PlatformHere, TagFacts};
pub use keeping::{Keeping, MinFree};
pub use listing::Listed;
pub use marks::MarkError;
pub use names::{Mirror, Names, Place, Resolved, Source};
pub use pull::{BlobAnswer, ManifestAnswer, Want};
pub use push::{Chunk, Pushed};
pub use referrers::Referrers;
pub use standing::{Disk, FillNow, UpstreamNow};
pub use sweep::Purging;
pub use validation::{Children, Validation};
pub use warm::{
    Count, Kept, Listener, News, ServerError, Source as WarmSource, Tally, Warm, WarmError, Warmed,
    Wishes, warm,
};

pub use warming::{WarmLayer, WarmRefused, WarmState, Warming};

/// What the registry needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For how long a mirrored tag is served without asking its upstream.
    pub fresh_for: Duration,
    /// Never contact an upstream.
    pub offline: bool,
    /// Mirrored tags that stay at a digest.
    pub hold: Vec<(Image, Digest)>,
    /// Whether clients may delete.
    pub delete: bool,
    /// Whether nothing may be pushed or deleted.
    pub readonly: bool,
    /// The most repositories in one page of the catalog.
    pub catalog_limit: usize,
    /// The most tags in one page of a tag list.
    pub tags_limit: usize,
    /// What happens to uploads that nobody finishes.
    pub purging: Option<Purging>,
    /// What pushed manifests may name.
    pub validation: Validation,
    /// Whether and how garbage is collected.
    pub collecting: Option<Collecting>,
    /// What is fetched ahead.
    pub warm: Warm,
    /// How much mirrored content is kept.
    pub keeping: Keeping,
}

/// The registry and the mirror: everything but the wire. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    /// What the configuration says, as a whole: a reload replaces it in one step.
    policy: RwLock<Arc<Policy>>,
    /// How often it was replaced, for those who go by it while they wait.
    reloads: watch::Sender<u64>,
    metrics: Metrics,
    store: Store,
    tasks: Tasks,
    fills: fill::Fills,
    checks: belief::Checks,
    passed: pass::Passed,
    manifests: flight::Flights<memory::ManifestKey, manifests::FetchResult>,
    tags: flight::Flights<memory::TagKey, freshness::HeadResult>,
    sizes: flight::Flights<memory::BlobKey, pull::SizeResult>,
    lists: flight::Flights<crate::oci::RepositoryName, listing::UpstreamTags>,
    referrers: flight::Flights<memory::BlobKey, referrers::ListResult>,
    facts: referrers::Facts,
    memory: memory::Memory,
    uploads: push::Sessions,
    room: Arc<room::Room>,
    marks: marks::Marks,
    catalogue: index::Catalogue,
    warmings: warming::Warmings,
}

struct Policy {
    settings: Settings,
    names: Arc<Names>,
    holds: holds::Holds,
}

impl Registry {
    /// Puts the parts together. Writes nothing, and touches no network; looks at the disk to tell
    /// which tags are held.
    pub fn new(
        settings: Settings,
        store: Store,
        upstreams: BTreeMap<String, Arc<Upstream>>,
        default_upstream: Option<String>,
    ) -> Result<Self, HoldError> {
        let tasks = Tasks::default();
        let policy = Policy::new(settings, &store, upstreams, default_upstream)?;
        let metrics = Metrics::default();
        policy.watch_the_switch(&store);
        policy.count_by(&metrics);
        Ok(Self {
            inner: Arc::new(Inner {
                metrics,
                memory: memory::Memory::default(),
                policy: RwLock::new(Arc::new(policy)),
                reloads: watch::Sender::new(0),
                room: Arc::new(room::Room::new(store.clone())),
                store,
                fills: fill::Fills::default(),
                checks: belief::Checks::default(),
                passed: pass::Passed::default(),
                manifests: flight::Flights::new(tasks.clone()),
                tags: flight::Flights::new(tasks.clone()),
                sizes: flight::Flights::new(tasks.clone()),
                lists: flight::Flights::new(tasks.clone()),
                referrers: flight::Flights::new(tasks.clone()),
                facts: referrers::Facts::default(),
                tasks,
                uploads: push::Sessions::default(),
                marks: marks::Marks::default(),
                catalogue: index::Catalogue::default(),
                warmings: warming::Warmings::default(),
            }),
        })
    }

    /// Goes on with other settings and upstreams. What is under way ends as it began, but for what
    /// may no longer ask anybody. After an error everything is as it was.
    pub fn reload(
        &self,
        settings: Settings,
        upstreams: BTreeMap<String, Arc<Upstream>>,
        default_upstream: Option<String>,
    ) -> Result<(), HoldError> {
        let store = &self.inner.store;
        let policy = Policy::new(settings, store, upstreams, default_upstream)?;
        policy.watch_the_switch(store);
        policy.count_by(&self.inner.metrics);
        let mut current = self
            .inner
            .policy
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(policy);
        drop(current);
        self.inner.reloads.send_modify(|count| *count += 1);
        self.ask_again();
        Ok(())
    }

    /// Whether these would be taken, as far as that depends on what is here.
    pub fn check_holds(
        &self,
        settings: &Settings,
        upstreams: BTreeMap<String, Arc<Upstream>>,
        default_upstream: Option<String>,
    ) -> Result<(), HoldError> {
        let store = &self.inner.store;
        Policy::new(settings.clone(), store, upstreams, default_upstream).map(drop)
    }

    /// Which repository is meant by a request.
    pub fn names(&self) -> Arc<Names> {
        Arc::clone(&self.policy().names)
    }

    fn policy(&self) -> Arc<Policy> {
        let policy = self.inner.policy.read();
        Arc::clone(&policy.unwrap_or_else(PoisonError::into_inner))
    }

    /// Stops what runs in the background: fills keep what they have, so that they can resume.
    /// Returns when the last task has ended.
    pub async fn stop(&self) {
        let tasks = &self.inner.tasks;
        tasks.stopping.cancel();
        tasks.tracker.close();
        tasks.tracker.wait().await;
        self.write_accounts().await;
    }

    /// What is counted. A reload changes nothing of it.
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// How many tasks run in the background: fills, revalidations, sweeps.
    pub fn running_tasks(&self) -> usize {
        self.inner.tasks.tracker.len()
    }
}

impl Policy {
    fn new(
        settings: Settings,
        store: &Store,
        upstreams: BTreeMap<String, Arc<Upstream>>,
        default_upstream: Option<String>,
    ) -> Result<Self, HoldError> {
        let offline = settings.offline;
        let names = Names::new(store.clone(), upstreams, default_upstream, offline);
        Ok(Self {
            holds: holds::Holds::resolve(&names, &settings.hold)?,
            settings,
            names: Arc::new(names),
        })
    }

    /// Lets the upstreams count what they do.
    fn count_by(&self, metrics: &Metrics) {
        for (name, upstream) in self.names.upstreams() {
            upstream.count_by(metrics.upstream(name));
        }
    }

    /// Lets the upstreams look at the switch, too: what is under way has been through the resolver.
    fn watch_the_switch(&self, store: &Store) {
        let offline = self.settings.offline;
        for upstream in self.names.upstreams().values() {
            let store = store.clone();
            upstream.ask_only_while(move || !offline && !store.is_offline());
        }
    }
}

/// Keeps count of background tasks, so that a shutdown can wait for them.
#[derive(Clone, Default)]
struct Tasks {
    tracker: TaskTracker,
    stopping: CancellationToken,
}

impl Tasks {
    /// Runs `task` detached from whoever asked for it, until it ends or everything stops.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stopping.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = task => {}
            }
        });
    }
}

/// Runs a piece of store work where blocking is allowed. It runs to its end even if the caller
/// goes away: no dropped future tears a write sequence.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| Error::Store(Arc::new(error))),
        Err(_) => Err(Error::Vanished),
    }
}
