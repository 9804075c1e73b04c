//! Following what happens: one picture of it for all who follow, made at most twice a second, and
//! only while somebody does.
//!
//! Whoever reads slowly gets the newest picture when he comes for the next: nothing is queued.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use crate::metrics::Totals;
use crate::oci::Digest;
use crate::registry::{Disk, FillNow};
use crate::store::{Index, Occupied};

use super::pulls::Pull;
use super::{Console, Sees, api};

/// How often somebody who follows is told.
const TICK: Duration = Duration::from_millis(500);

/// For how long a picture is good enough for another one's tick.
const FRESH: Duration = Duration::from_millis(400);

/// How often the disk is looked at.
const DISK: Duration = Duration::from_secs(5);

/// After this long without news a line says that the connection stands.
const QUIET: Duration = Duration::from_secs(15);

/// Over how long the speed of a fill is measured.
const PACE: Duration = Duration::from_secs(3);

/// How many may follow at once.
const READERS: usize = 200;

/// How many answers under way are told.
const PULLS: usize = 50;

/// What all who follow share.
pub(super) struct Watch {
    picture: Mutex<Making>,
    readers: Arc<Semaphore>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            picture: Mutex::default(),
            readers: Arc::new(Semaphore::new(READERS)),
        }
    }
}

/// Too many follow already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{READERS} others follow what happens already: try again later")]
pub struct TooMany;

#[derive(Default)]
struct Making {
    made: Option<(Instant, Arc<Picture>)>,
    disk: Option<(Instant, Value)>,
    /// How much of each fill was here when.
    paces: HashMap<Digest, VecDeque<(Instant, u64)>>,
}

/// What happens, at one moment.
struct Picture {
    fills: Vec<(FillNow, u64)>,
    pulls: Vec<Arc<Pull>>,
    totals: Totals,
    disk: Value,
}

/// Somebody who follows.
pub struct Follower {
    console: Console,
    sees: Sees,
    told: Option<Told>,
    _permit: OwnedSemaphorePermit,
}

/// What somebody was told last.
struct Told {
    state: String,
    changes: u64,
    warmings: u64,
    at: Instant,
}

impl Console {
    /// Begins to follow, as one who sees these repositories.
    pub fn follow(&self, sees: Sees) -> Result<Follower, TooMany> {
        let permit = Arc::clone(&self.0.watch.readers).try_acquire_owned();
        Ok(Follower {
            console: self.clone(),
            sees,
            told: None,
            _permit: permit.map_err(|_| TooMany)?,
        })
    }

    async fn picture(&self) -> Arc<Picture> {
        let mut making = self.0.watch.picture.lock().await;
        if let Some((at, picture)) = &making.made
            && at.elapsed() < FRESH
        {
            return Arc::clone(picture);
        }
        let is_old = |at: &Instant| at.elapsed() >= DISK;
        if making.disk.as_ref().is_none_or(|(at, _)| is_old(at)) {
            let disk = self.disk().await;
            making.disk = Some((Instant::now(), disk));
        }
        let disk = making.disk.as_ref().map(|(_, disk)| disk.clone());
        let fills = making.paced(self.0.registry.fills_now());
        let picture = Arc::new(Picture {
            fills,
            // All of them: who sees which is decided for each who follows.
            pulls: self.newest_pulls(),
            totals: self.totals(),
            disk: disk.unwrap_or_default(),
        });
        making.made = Some((Instant::now(), Arc::clone(&picture)));
        picture
    }

    fn newest_pulls(&self) -> Vec<Arc<Pull>> {
        let all = self.0.pulls.newest(usize::MAX, |_| true);
        all.into_iter().map(|(_, pull)| pull).collect()
    }

    /// What there is to store in, as the API shows it.
    pub(super) async fn disk(&self) -> Value {
        let disk = self.0.registry.disk().await.unwrap_or_default();
        let occupied = self.0.registry.look_soon(Index::occupied).await;
        let is_mirror = self.0.registry.names().mirrors_anything();
        disk_json(&disk, occupied, is_mirror)
    }
}

fn disk_json(disk: &Disk, occupied: Option<Occupied>, is_mirror: bool) -> Value {
    // Where nothing is mirrored nobody counts mirrors.
    let is_counted = (disk.mirrors.is_some() || !is_mirror) && occupied.is_some();
    let occupied = occupied.unwrap_or_default();
    // What no tag leads to is counted of mirrors, too.
    let mirrors = disk.mirrors.unwrap_or(occupied.mirrors);
    json!({
        "used": mirrors + occupied.local,
        "mirrors": mirrors,
        "local": occupied.local,
        "free": disk.space.free,
        "size": disk.space.size,
        "maxsize": disk.max_size,
        "minfree": disk.min_free,
        "counted": is_counted,
    })
}

impl Making {
    /// The fills, the oldest first, with how many bytes of each came in a second lately.
    fn paced(&mut self, mut fills: Vec<FillNow>) -> Vec<(FillNow, u64)> {
        fills.sort_by(|a, b| (a.since, &a.digest).cmp(&(b.since, &b.digest)));
        let now = Instant::now();
        self.paces
            .retain(|digest, _| fills.iter().any(|fill| fill.digest == *digest));
        let paced = fills.into_iter().map(|fill| {
            let pace = self.paces.entry(fill.digest.clone()).or_default();
            pace.push_back((now, fill.written));
            while pace.len() > 2 && pace.front().is_some_and(|(at, _)| now - *at > PACE) {
                pace.pop_front();
            }
            let speed = speed(&fill, pace);
            (fill, speed)
        });
        paced.collect()
    }
}

/// Bytes a second, over the last moments or else since it began.
fn speed(fill: &FillNow, pace: &VecDeque<(Instant, u64)>) -> u64 {
    let (took, bytes) = match (pace.front(), pace.back()) {
        (Some((from, before)), Some((to, after))) if to > from => {
            (*to - *from, after.saturating_sub(*before))
        }
        _ => {
            let since = SystemTime::now().duration_since(fill.since);
            (since.unwrap_or_default(), fill.written)
        }
    };
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    bytes.saturating_mul(1000) / millis
}

impl Picture {
    fn json(&self, sees: &Sees) -> Value {
        let fills = self.fills.iter();
        let fills = fills.filter(|(fill, _)| sees(fill.repository.as_str()));
        let fills: Vec<Value> = fills.map(|(fill, speed)| fill_json(fill, *speed)).collect();
        let pulls = self.pulls.iter();
        let pulls = pulls.filter(|pull| sees(pull.repository.as_str()));
        let pulls: Vec<Value> = pulls.take(PULLS).map(|pull| pull_json(pull)).collect();
        json!({
            "fills": fills,
            "pulls": pulls,
            "totals": api::totals(&self.totals),
            "disk": self.disk,
        })
    }
}

fn fill_json(fill: &FillNow, speed: u64) -> Value {
    json!({
        "repository": fill.repository.as_str(),
        "digest": fill.digest.as_str(),
        "size": fill.size,
        "written": fill.written,
        "followers": fill.followers,
        "speed": speed,
        "since": api::time(Some(fill.since)),
        "upstream": fill.upstream,
    })
}

fn pull_json(pull: &Pull) -> Value {
    json!({
        "repository": pull.repository.as_str(),
        "reference": pull.digest.as_str(),
        "kind": "blob",
        "client": pull.client.to_string(),
        "sent": pull.sent(),
        "size": pull.size,
        "outcome": pull.outcome.as_str(),
        "since": api::time(Some(pull.since)),
    })
}

impl Follower {
    /// What is to be sent next, when there is something; `None` at the end.
    ///
    /// It is made when it is asked for, so that whoever was slow gets what is so now.
    pub async fn next(&mut self) -> Option<String> {
        let stop = self.console.0.stop.clone();
        loop {
            if self.told.is_some() {
                tokio::select! {
                    () = stop.cancelled() => return None,
                    () = sleep(TICK) => {}
                }
            }
            let news = tokio::select! {
                () = stop.cancelled() => return None,
                news = self.news() => news,
            };
            if !news.is_empty() {
                return Some(news);
            }
        }
    }

    /// What has happened since the last time.
    async fn news(&mut self) -> String {
        let registry = &self.console.0.registry;
        let (changes, warmings) = match &self.told {
            Some(told) => (told.changes, told.warmings),
            // Whoever begins is told of what happens from now on.
            None => (registry.changed(u64::MAX).await.upto, 0),
        };
        let mut text = String::new();
        let latest = registry.changed(changes).await;
        match latest.repositories {
            Some(names) => {
                for name in names.iter().filter(|name| (self.sees)(name.as_str())) {
                    event(
                        &mut text,
                        "changed",
                        &json!({ "repository": name.as_str() }),
                    );
                }
            }
            None => event(&mut text, "changed", &json!({ "repository": null })),
        }
        let mut version = warmings;
        for warming in registry.warmings_since(warmings) {
            version = warming.version;
            if (self.sees)(&warming.repository) {
                event(&mut text, "warm", &api::warming(&warming));
            }
        }
        let state = self.console.picture().await.json(&self.sees).to_string();
        let told = self.told.as_ref();
        if told.is_none_or(|told| told.state != state) {
            // Writing to a string does not fail.
            _ = write!(text, "event: state\ndata: {state}\n\n");
        }
        let is_quiet = told.is_some_and(|told| told.at.elapsed() >= QUIET);
        if text.is_empty() && is_quiet {
            text.push_str(": still here\n\n");
        }
        let last = told.map_or_else(Instant::now, |told| told.at);
        self.told = Some(Told {
            state,
            changes: latest.upto,
            warmings: version,
            at: if text.is_empty() {
                last
            } else {
                Instant::now()
            },
        });
        text
    }
}

/// Adds an event. JSON has no line breaks of its own, so its data is one line.
fn event(text: &mut String, name: &str, data: &Value) {
    // Writing to a string does not fail.
    _ = write!(text, "event: {name}\ndata: {data}\n\n");
}
