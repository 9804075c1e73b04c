//! Images that people had fetched ahead while larder runs: what `larder warm` does, in the
//! background, and found again by an id.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use crate::oci::{Digest, Image, ImagePart, Platform};

use super::{Error, News, Registry, WarmSource, Wishes, warm};

/// How many images are fetched at once.
const AT_ONCE: usize = 2;

/// How many may wait for their turn.
const QUEUE: usize = 100;

/// How many are remembered that are done.
const DONE: usize = 100;

/// How many layers of an image are fetched at once.
const JOBS: usize = 2;

/// An image that is fetched ahead, or was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warming {
    /// By which it is found again.
    pub id: String,
    /// The image, as it was asked for.
    pub image: String,
    /// The full name of its repository.
    pub repository: String,
    /// How far it is.
    pub state: WarmState,
    /// Its blobs, as soon as they are known.
    pub layers: Vec<WarmLayer>,
    /// Grows with each change.
    pub version: u64,
}

/// How far something is that is fetched ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WarmState {
    /// It waits for its turn, or is under way.
    Running,
    /// All of it is here.
    Done,
    /// Not all of it came, for this reason.
    Failed(String),
}

/// A blob of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmLayer {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes, as its manifest says.
    pub size: u64,
    /// How many of them are here.
    pub written: u64,
}

/// Why an image is not fetched.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WarmRefused {
    /// Too many wait already.
    #[error("{QUEUE} images wait to be fetched: try again when some of them are here")]
    Full,
    /// The registry says why.
    #[error(transparent)]
    Registry(#[from] Error),
}

/// All of them.
pub(super) struct Warmings {
    known: Mutex<Known>,
    slots: Arc<Semaphore>,
}

#[derive(Default)]
struct Known {
    all: HashMap<String, Entry>,
    done: VecDeque<String>,
    version: u64,
}

struct Entry {
    warming: Warming,
    platforms: Vec<Platform>,
}

impl Default for Warmings {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Warmings {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Warming)) {
        let mut known = self.lock();
        known.version += 1;
        let version = known.version;
        if let Some(entry) = known.all.get_mut(id) {
            change(&mut entry.warming);
            entry.warming.version = version;
        }
    }

    fn end(&self, id: &str, state: WarmState) {
        self.change(id, |warming| warming.state = state);
        let mut known = self.lock();
        known.done.push_back(id.to_owned());
        if known.done.len() > DONE
            && let Some(oldest) = known.done.pop_front()
        {
            known.all.remove(&oldest);
        }
    }

    fn tell(&self, id: &str, news: &News<'_>) {
        let part = |change: fn(&mut WarmLayer, u64), part: &ImagePart, bytes| {
            self.change(id, |warming| {
                let mut layers = warming.layers.iter_mut();
                if let Some(layer) = layers.find(|it| it.digest == part.part.digest) {
                    change(layer, bytes);
                }
            });
        };
        match news {
            News::Known(_, parts) => self.change(id, |warming| {
                let mut layers: Vec<WarmLayer> = Vec::new();
                for part in *parts {
                    if !layers.iter().any(|it| it.digest == part.part.digest) {
                        layers.push(WarmLayer {
                            digest: part.part.digest.clone(),
                            size: part.part.size,
                            written: 0,
                        });
                    }
                }
                warming.layers = layers;
            }),
            News::Moved(of, bytes) => part(
                |layer, bytes| layer.written = (layer.written + bytes).min(layer.size),
                of,
                *bytes,
            ),
            News::Ended(_, of, Ok(_)) => part(|layer, _| layer.written = layer.size, of, 0),
            News::Started(..) | News::Ended(..) | News::Done(_) => {}
        }
    }
}

impl Registry {
    /// Has an image fetched in the background. One that is being fetched already is not fetched
    /// twice.
    pub fn warm_ahead(
        &self,
        image: &Image,
        platforms: &[Platform],
    ) -> Result<Warming, WarmRefused> {
        let place = self.names().for_pull(&image.target)?.place;
        let warmings = &self.inner.warmings;
        let text = image.to_string();
        let mut known = warmings.lock();
        let is_running = |entry: &&Entry| entry.warming.state == WarmState::Running;
        let running = known.all.values().filter(is_running);
        if let Some(same) = running
            .clone()
            .find(|it| it.warming.image == text && it.platforms == platforms)
        {
            return Ok(same.warming.clone());
        }
        if running.count() >= AT_ONCE + QUEUE {
            return Err(WarmRefused::Full);
        }
        known.version += 1;
        let warming = Warming {
            id: uuid::Uuid::now_v7().simple().to_string(),
            image: text,
            repository: place.full_name(),
            state: WarmState::Running,
            layers: Vec::new(),
            version: known.version,
        };
        let entry = Entry {
            warming: warming.clone(),
            platforms: platforms.to_vec(),
        };
        known.all.insert(warming.id.clone(), entry);
        drop(known);
        let wishes = Wishes {
            images: vec![image.clone()],
            platforms: platforms.to_vec(),
            jobs: JOBS,
        };
        self.inner
            .tasks
            .spawn(fetch(self.clone(), warming.id.clone(), wishes));
        Ok(warming)
    }

    /// How far an image is that was to be fetched.
    pub fn warming(&self, id: &str) -> Option<Warming> {
        let known = self.inner.warmings.lock();
        known.all.get(id).map(|entry| entry.warming.clone())
    }

    /// Those that changed after `since`, the oldest change first.
    pub fn warmings_since(&self, since: u64) -> Vec<Warming> {
        let known = self.inner.warmings.lock();
        if known.version <= since {
            return Vec::new();
        }
        let all = known.all.values().map(|entry| &entry.warming);
        let mut changed: Vec<Warming> = all.filter(|it| it.version > since).cloned().collect();
        changed.sort_by_key(|warming| warming.version);
        changed
    }
}

async fn fetch(registry: Registry, id: String, wishes: Wishes) {
    let warmings = &registry.inner.warmings;
    // Made before there is anything to wait for: what panics or is stopped must not run for ever.
    let end = End {
        registry: registry.clone(),
        id: id.clone(),
        state: Some(WarmState::Failed("it was interrupted".to_owned())),
    };
    let slots = Arc::clone(&warmings.slots);
    // Nobody closes the semaphore.
    let _slot = slots.acquire().await;
    let source = WarmSource::Registry(registry.clone());
    let listener = |news: News<'_>| warmings.tell(&id, &news);
    let warmed = warm(&source, &wishes, &listener).await;
    let failure = warmed.into_iter().find_map(|warmed| warmed.failure);
    let state = match failure {
        Some(failure) => WarmState::Failed(failure.to_string()),
        None => WarmState::Done,
    };
    end.with(state);
}

/// Says how it ended, however it does.
struct End {
    registry: Registry,
    id: String,
    state: Option<WarmState>,
}

impl End {
    fn with(mut self, state: WarmState) {
        self.state = Some(state);
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some(state) = self.state.take() {
            self.registry.inner.warmings.end(&self.id, state);
        }
    }
}
