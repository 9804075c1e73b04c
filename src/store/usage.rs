//! Keeping account of what mirrors hold, and evicting what has been unused for longest.
//!
//! Files are the truth. What is kept in memory is a *picture* of them, made by a walk in the
//! background and kept current by what this process links ([`journal`]); nothing is removed because
//! of the picture alone. Three rules make that safe:
//!
//! 1. Every link is told to the journal before it is written, under the shared hold under which it
//!    is written. The journal is open before the walk begins.
//! 2. Each removal is decided again under the exclusive hold, on a picture that has read the
//!    journal. It may know of links that are gone, but never lacks one that is there.
//! 3. Who links beside this process touches `larder.beside` under his hold. If that has changed,
//!    nothing is evicted before the next walk.
//!
//! When a manifest was last pulled is a hint file in its mirror, written within a second.

mod books;
mod choose;
mod clock;
mod evict;
mod journal;
mod outlook;
mod picture;
mod remove;
mod table;
mod walk;

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant, SystemTime};

use crate::oci::{Digest, RepositoryName};

use super::layout::Layout;
use super::{Store, StoreError, file, publish};
use books::Books;
pub use choose::Kept;
use choose::units;
pub use clock::Age;
use clock::{Clock, Saved};
pub use evict::{Evicted, Order};
pub(super) use journal::Journal;
use journal::{Change, Uses, When};
pub use outlook::{Candidate, LastUse};
use picture::Picture;
pub(super) use walk::Beside;
pub use walk::SurveyError;
use walk::survey;

/// How many records of use are written with one hold.
const RECORDS: usize = 16;

/// How long a record of use may wait for its hold: it is tried again a second later.
const SHORTLY: Duration = Duration::from_millis(500);

/// What mirrors hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Images, and layers that belong to none.
    pub images: usize,
    /// Bytes of data that mirrors alone link.
    pub bytes: u64,
}

/// What the file system of a tree has. For ordinary users, as far as it tells them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Its size in bytes,
    pub size: u64,
    /// and how much of that is free.
    pub free: u64,
    /// Its inodes; 0 where it does not count them.
    pub inodes: u64,
    /// How many of these are free.
    pub free_inodes: u64,
}

/// The account of one store. All of it blocks, but for [`Accounts::note_use`].
#[derive(Debug)]
pub struct Accounts {
    store: Store,
    uses: Uses,
    clock: Mutex<Option<Clock>>,
    books: Mutex<Books>,
    /// What the books last said: see [`Accounts::cached`].
    last_cached: Mutex<Option<u64>>,
    /// One eviction at a time; a new picture waits for its end.
    evicting: Mutex<()>,
}

impl Accounts {
    /// Accounts of a store that nobody has looked at yet.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            uses: Uses::default(),
            clock: Mutex::default(),
            books: Mutex::default(),
            last_cached: Mutex::default(),
            evicting: Mutex::default(),
        }
    }

    /// Notes that a mirrored manifest was pulled. A short insert in memory.
    pub fn note_use(&self, repository: &RepositoryName, manifest: &Digest) {
        let now = When::At(Instant::now());
        self.uses.note(repository, manifest, now);
    }

    /// What mirrors hold, if that is known yet.
    pub fn totals(&self) -> Option<Totals> {
        let mut books = self.caught_up();
        let picture = books.picture.as_mut()?;
        Some(Totals {
            images: units(picture).count(),
            bytes: picture.cached(),
        })
    }

    /// How many bytes mirrors alone hold, if that is known yet. Somebody waits for his pull to begin:
    /// while others read the books it is what they last said, and at most what came since.
    pub fn cached(&self) -> Option<u64> {
        match self.books.try_lock() {
            Ok(mut books) => {
                self.catch_up(&mut books);
                books.cached()
            }
            Err(TryLockError::Poisoned(_)) => self.caught_up().cached(),
            Err(TryLockError::WouldBlock) => {
                let last = *lock(&self.last_cached);
                last.map(|last| last.saturating_add(self.store.journal().bytes()))
            }
        }
    }

    /// What there is to store in.
    pub fn space(&self) -> Result<Space, StoreError> {
        self.store.space()
    }

    /// Whether nothing can be removed.
    pub fn is_read_only(&self) -> bool {
        let told = rustix::fs::statvfs(&self.store.inner.root);
        told.is_ok_and(|told| told.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
    }

    /// Looks at the whole tree. Slow: run it in the background; `stop` is asked again and again
    /// whether to give up.
    pub fn survey(&self, stop: &dyn Fn() -> bool) -> Result<Totals, SurveyError> {
        self.store.journal().open();
        {
            let mut books = self.caught_up();
            books.since = Some(Vec::new());
        }
        let beside = Beside::of(&self.store);
        let walked = survey(&self.store, stop);
        let mut walked = match walked {
            Ok(walked) => walked,
            Err(error) => {
                self.books().since = None;
                return Err(error);
            }
        };
        let now = self.now();
        let (clock, now) = self.with_clock(|clock| {
            clock.settle(walked.newest);
            (
                *clock,
                if clock.is_settled() {
                    clock.age_at(Instant::now())
                } else {
                    now
                },
            )
        });
        for (repository, digest, age) in walked.date(&clock, now) {
            self.uses.note_older(&repository, &digest, When::Age(age));
        }
        let _no_eviction = lock(&self.evicting);
        let mut books = self.caught_up();
        for change in books.since.take().into_iter().flatten() {
            walked.picture.change(&change, now);
        }
        books.picture = Some(walked.picture);
        books.remains = walked.remains;
        books.husks = walked.husks;
        books.beside = beside;
        self.note_cached(&books);
        self.tell(&mut books, self.uses.tell_all());
        drop(books);
        Ok(self.totals().unwrap_or_default())
    }

    /// Goes on to now: writes down what was used, and takes in what was linked. To be called about
    /// every second.
    pub fn tick(&self) -> Result<(), StoreError> {
        self.with_clock(|clock| clock.advance(SystemTime::now(), Instant::now()));
        drop(self.caught_up());
        self.store.let_go();
        self.write_uses()
    }

    /// Writes down what the clock says, for the next start. To be called about every minute, and
    /// at the end.
    pub fn save_clock(&self) -> Result<(), StoreError> {
        let saved = self.with_clock(|clock| {
            clock.advance(SystemTime::now(), Instant::now());
            clock.is_settled().then(|| clock.saved())
        });
        match saved {
            Some(saved) if !self.is_read_only() => {
                let path = Layout::clock(&self.store.inner.root);
                publish::write_hint(&path, saved.text().as_bytes())
            }
            _ => Ok(()),
        }
    }

    /// The books, with everything that was linked and used until now.
    fn caught_up(&self) -> MutexGuard<'_, Books> {
        let mut books = self.books();
        self.catch_up(&mut books);
        books
    }

    fn catch_up(&self, books: &mut Books) {
        // In this order: what was used was linked before.
        let uses = match &books.picture {
            Some(_) => self.uses.tell(),
            None => Vec::new(),
        };
        let events = self.store.journal().take();
        if !events.is_empty() {
            let now = self.with_clock(|clock| clock.age_at(Instant::now()));
            for event in events {
                books.change(Change::Linked(event), now);
            }
            self.note_cached(books);
        }
        self.tell(books, uses);
    }

    fn note_cached(&self, books: &Books) {
        *lock(&self.last_cached) = books.cached();
    }

    fn tell(&self, books: &mut Books, uses: Vec<(RepositoryName, Digest, When)>) {
        let (clock, now) = self.with_clock(|clock| (*clock, clock.age_at(Instant::now())));
        if let Some(picture) = &mut books.picture {
            for (repository, digest, when) in uses {
                let age = age_of(&clock, when);
                picture.change(&Change::Used(repository, digest, age), now);
            }
        }
    }

    /// Writes down which manifests were used when. What cannot be written now stays noted.
    fn write_uses(&self) -> Result<(), StoreError> {
        let clock = self.with_clock(|clock| *clock);
        if !clock.is_settled() {
            return Ok(());
        }
        let uses = {
            // The books first: an eviction that has them in between would know nothing of these uses.
            let mut books = self.books();
            let uses = self.uses.take();
            // A walk that is under way may have read the old record.
            for (repository, digest, when) in &uses {
                let age = age_of(&clock, *when);
                books.change(Change::Used(repository.clone(), digest.clone(), age), age);
            }
            uses
        };
        let mut result = Ok(());
        for some in uses.chunks(RECORDS) {
            if result.is_ok() {
                result = self.write_some(&clock, some);
            }
            if result.is_err() && !self.is_read_only() {
                for (repository, digest, when) in some {
                    self.uses.note_older(repository, digest, *when);
                }
            }
        }
        result
    }

    fn write_some(
        &self,
        clock: &Clock,
        uses: &[(RepositoryName, Digest, When)],
    ) -> Result<(), StoreError> {
        if self.is_read_only() {
            return Ok(());
        }
        // Nothing of it is evicted meanwhile: the record of what is gone would make a mirror.
        let _held = self.store.holds().shared_within(SHORTLY)?;
        let layout = self.store.layout();
        for (repository, digest, when) in uses {
            if layout.revision_link(repository, digest).is_file() {
                let age = age_of(clock, *when).0;
                let path = layout.mirror_used(repository, digest);
                publish::write_hint(&path, age.to_string().as_bytes())?;
            }
        }
        Ok(())
    }

    fn now(&self) -> Age {
        self.with_clock(|clock| {
            clock.advance(SystemTime::now(), Instant::now());
            clock.age_at(Instant::now())
        })
    }

    fn with_clock<T>(&self, work: impl FnOnce(&mut Clock) -> T) -> T {
        let mut clock = lock(&self.clock);
        work(clock.get_or_insert_with(|| {
            let path = Layout::clock(&self.store.inner.root);
            let text = file::read(&path, 200).ok().flatten();
            let saved = text.and_then(|text| Saved::read(str::from_utf8(&text).ok()?));
            Clock::start(saved, SystemTime::now(), Instant::now())
        }))
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        lock(&self.books)
    }
}

impl Store {
    /// When a mirrored manifest was last pulled, if that is known.
    pub(super) fn used(
        &self,
        repository: &RepositoryName,
        manifest: &Digest,
    ) -> Result<Option<Age>, StoreError> {
        let path = self.layout().mirror_used(repository, manifest);
        let text = file::read(&path, 200)?;
        Ok(text.and_then(|text| str::from_utf8(&text).ok()?.trim_end().parse().ok().map(Age)))
    }

    fn space(&self) -> Result<Space, StoreError> {
        let root = &self.inner.root;
        let told = rustix::fs::statvfs(root)
            .map_err(|error| StoreError::of("look at the disk of", root, error.into()))?;
        Ok(Space {
            size: told.f_blocks.saturating_mul(told.f_frsize),
            free: told.f_bavail.saturating_mul(told.f_frsize),
            inodes: told.f_files,
            free_inodes: told.f_favail,
        })
    }
}

fn age_of(clock: &Clock, when: When) -> Age {
    match when {
        When::At(at) => clock.age_at(at),
        When::Age(age) => age,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "usage/tests.rs"]
mod tests;
