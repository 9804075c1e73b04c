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

/// An image that is to be fetched.
#[derive(Debug)]
enum Begun {
    Now(Warming),
    /// It is being fetched already.
    Before(Warming),
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

    /// Takes note of one more, unless it is under way already.
    fn begin(
        &self,
        image: String,
        repository: String,
        platforms: &[Platform],
    ) -> Result<Begun, WarmRefused> {
        let mut known = self.lock();
        let is_running = |entry: &&Entry| entry.warming.state == WarmState::Running;
        let running = known.all.values().filter(is_running);
        let mut same = running.clone();
        if let Some(same) = same.find(|it| it.warming.image == image && it.platforms == platforms) {
            return Ok(Begun::Before(same.warming.clone()));
        }
        if running.count() >= AT_ONCE + QUEUE {
            return Err(WarmRefused::Full);
        }
        known.version += 1;
        let warming = Warming {
            id: uuid::Uuid::now_v7().simple().to_string(),
            image,
            repository,
            state: WarmState::Running,
            layers: Vec::new(),
            version: known.version,
        };
        let entry = Entry {
            warming: warming.clone(),
            platforms: platforms.to_vec(),
        };
        known.all.insert(warming.id.clone(), entry);
        Ok(Begun::Now(warming))
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
        let (text, repository) = (image.to_string(), place.full_name());
        let begun = self.inner.warmings.begin(text, repository, platforms)?;
        let warming = match begun {
            Begun::Now(warming) => warming,
            Begun::Before(warming) => return Ok(warming),
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Role;
    use crate::oci::contents::Part;

    fn begin(warmings: &Warmings, image: &str, platforms: &[Platform]) -> Option<Warming> {
        let begun = warmings.begin(image.to_owned(), "docker.io/a".to_owned(), platforms);
        match begun.unwrap() {
            Begun::Now(warming) => Some(warming),
            Begun::Before(_) => None,
        }
    }

    #[test]
    fn an_image_is_fetched_once_at_a_time_for_the_same_platforms() {
        let warmings = Warmings::default();
        let first = begin(&warmings, "a:1", &[]).unwrap();
        assert!(begin(&warmings, "a:1", &[]).is_none());
        assert!(begin(&warmings, "a:2", &[]).is_some());
        let arm: Platform = "linux/arm64".parse().unwrap();
        assert!(begin(&warmings, "a:1", &[arm]).is_some());
        warmings.end(&first.id, WarmState::Done);
        assert!(begin(&warmings, "a:1", &[]).is_some());
    }

    #[test]
    fn so_many_wait_and_so_many_are_remembered() {
        let warmings = Warmings::default();
        let image = |number: usize| format!("a:{number}");
        let all: Vec<_> = (0..AT_ONCE + QUEUE)
            .map(|number| begin(&warmings, &image(number), &[]).unwrap())
            .collect();
        let more = || warmings.begin(image(QUEUE + 9), String::new(), &[]);
        assert!(matches!(more(), Err(WarmRefused::Full)));
        for warming in &all {
            warmings.end(&warming.id, WarmState::Done);
        }
        assert!(more().is_ok());
        let known = warmings.lock();
        assert_eq!(known.all.len(), DONE + 1);
        assert!(!known.all.contains_key(&all[0].id), "the oldest goes first");
        assert!(known.all.contains_key(&all[AT_ONCE + QUEUE - 1].id));
    }

    #[test]
    fn a_layer_that_is_begun_anew_is_never_more_than_whole() {
        let warmings = Warmings::default();
        let id = begin(&warmings, "a:1", &[]).unwrap().id;
        let digest = Digest::of(b"layer");
        let part = Part { digest, size: 10 };
        let part = ImagePart {
            role: Role::Layer,
            part,
            platform: None,
        };
        let image: Image = "a:1".parse().unwrap();
        warmings.tell(&id, &News::Known(&image, &[part.clone(), part.clone()]));
        for _ in 0..3 {
            warmings.tell(&id, &News::Moved(&part, 6));
        }
        let known = warmings.lock();
        let layers = &known.all[&id].warming.layers;
        assert_eq!((layers.len(), layers[0].written), (1, 10));
    }
}
