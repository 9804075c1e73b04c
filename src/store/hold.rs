//! Keeping out of each other's way: whoever makes content somebody's, and whoever removes what is
//! nobody's.
//!
//! Many may link content at the same time, each under a *shared* hold; a collection removes under
//! an *exclusive* one, for moments. Both are locks of the kernel on files beside the tree, so that
//! they hold between processes too: `larder garbage-collect` is typed while a server runs. The
//! kernel lets go of them when a process ends, however it ends.
//!
//! Whoever wants either passes a turnstile first. A collection keeps it shut while it waits and
//! works, so that a stream of pushes cannot keep it out; between two of its batches it pauses, so
//! that it cannot keep the pushes out.
//!
//! Every hold opens the files afresh: these locks belong to an open file, and two holds of one
//! process must be two. For the same reason **holds do not nest**: the inner one would wait at a
//! turnstile that stays shut until the outer one is gone. Functions that need a hold and do not
//! take it themselves ask for a [`Shared`] as proof.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::layout::Layout;
use super::{Context as _, StoreError, publish};

/// For how long a write waits before it fails. A collection lets everybody through many times a
/// second; one that does not was stopped by somebody, and must not take all threads with it.
const GIVES_UP_AFTER: Duration = Duration::from_secs(30);

/// The longest pause between two tries: an eviction keeps others out for a millisecond at a time,
/// and waiting is to cost little more than that.
const PAUSE: Duration = Duration::from_micros(250);

/// For how long the turnstile may be shut by one who waits to be alone, and can come back later.
/// Somebody is always linking: each time it may take a little longer.
#[derive(Debug)]
pub(super) struct Patience(Duration);

impl Default for Patience {
    fn default() -> Self {
        Self(Self::FIRST)
    }
}

impl Patience {
    const FIRST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_millis(50);

    pub(super) fn time(&self) -> Duration {
        self.0
    }

    /// Leaves the others alone for a while.
    pub(super) fn pause(&mut self) {
        sleep(Self::FIRST * 2);
        self.0 = (self.0 * 5 / 4).min(Self::LONGEST);
    }
}

/// Where the locks are.
#[derive(Debug)]
pub(super) struct Holds(Files);

#[derive(Debug)]
struct Files {
    hold: PathBuf,
    turn: PathBuf,
    collect: PathBuf,
    /// What is touched with each hold, for the process that serves the tree to see.
    beside: Option<PathBuf>,
}

/// Content may be linked and relied on: nothing is collected while this lives.
#[derive(Debug)]
pub(super) struct Shared {
    _hold: Option<File>,
}

/// Nobody links anything while this lives.
#[derive(Debug)]
pub(super) struct Exclusive {
    // In this order: the next may only come to the turnstile's other side when it is free there.
    _hold: Option<File>,
    _turn: Option<File>,
    shut: Instant,
}

impl Exclusive {
    /// Lets the others in again, and says for how long the longest of them may have waited.
    pub(super) fn release(self) -> Duration {
        let shut = self.shut;
        drop(self);
        shut.elapsed()
    }
}

/// This is the only collection while this lives.
#[derive(Debug)]
pub(super) struct Collecting {
    _collect: Option<File>,
}

impl Holds {
    /// The holds of a tree that this process serves: their files are made.
    pub(super) fn make(root: &Path) -> Result<Self, StoreError> {
        let holds = Self::of(root);
        for path in [&holds.0.hold, &holds.0.turn, &holds.0.collect] {
            match open(path) {
                // They are made when something is to be written, if there is room for that.
                Err(StoreError::Full(failure)) => {
                    tracing::warn!("{failure}: starting without it");
                }
                opened => drop(opened?),
            }
        }
        Ok(holds)
    }

    /// The holds of a tree that another process serves; `None` if that one does not know them.
    pub(super) fn beside(root: &Path) -> Option<Self> {
        let known = Layout::hold(root).is_file() && Layout::turn(root).is_file();
        known.then(|| Self::of(root))
    }

    /// The same for one who brings content into a tree that another process serves: that one takes
    /// its picture of the tree anew when it sees that this file has changed.
    pub(super) fn telling(mut self, root: &Path) -> Self {
        self.0.beside = Some(Layout::beside(root));
        self
    }

    /// The holds of a tree that cannot be written to now, but may be later: nothing is made.
    pub(super) fn of(root: &Path) -> Self {
        Self(Files {
            hold: Layout::hold(root),
            turn: Layout::turn(root),
            collect: Layout::collect(root),
            beside: None,
        })
    }

    /// Waits until no collection is removing anything, and keeps it from doing so.
    pub(super) fn shared(&self) -> Result<Shared, StoreError> {
        self.shared_within(GIVES_UP_AFTER)
    }

    /// The same for those who can do without.
    pub(super) fn shared_within(&self, patience: Duration) -> Result<Shared, StoreError> {
        let files = &self.0;
        if let Some(turn) = open(&files.turn)? {
            lock_shared(&turn, patience).context("pass the turnstile", &files.turn)?;
        }
        let hold = open(&files.hold)?;
        if let Some(hold) = &hold {
            // Nobody is inside alone without having shut the turnstile: this does not wait.
            lock_shared(hold, patience).context("hold", &files.hold)?;
        }
        if let Some(beside) = &files.beside {
            // Before anything is linked: a process that is killed in between has told all the same.
            publish::write_hint(beside, b"")?;
        }
        Ok(Shared { _hold: hold })
    }

    /// Waits until everybody who links something is through, and keeps others out.
    pub(super) fn exclusive(&self) -> Result<Exclusive, StoreError> {
        let files = &self.0;
        let turn = open(&files.turn)?;
        if let Some(turn) = &turn {
            turn.lock().context("shut the turnstile", &files.turn)?;
        }
        let shut = Instant::now();
        let hold = open(&files.hold)?;
        if let Some(hold) = &hold {
            hold.lock().context("hold", &files.hold)?;
        }
        Ok(Exclusive {
            _hold: hold,
            _turn: turn,
            shut,
        })
    }

    /// The same for those who can come back later, and must keep nobody waiting: the turnstile is
    /// shut for no longer than `patience`.
    pub(super) fn exclusive_within(
        &self,
        patience: Duration,
    ) -> Result<Option<Exclusive>, StoreError> {
        let files = &self.0;
        let (Some(turn), Some(hold)) = (open(&files.turn)?, open(&files.hold)?) else {
            return self.exclusive().map(Some);
        };
        if !lock_within(&turn, patience).context("shut the turnstile", &files.turn)? {
            return Ok(None);
        }
        let shut = Instant::now();
        let is_held = lock_within(&hold, patience).context("hold", &files.hold)?;
        Ok(is_held.then_some(Exclusive {
            _hold: Some(hold),
            _turn: Some(turn),
            shut,
        }))
    }

    /// Waits until everybody is through who is linking something now. `false` if it is stopped first.
    pub(super) fn wait_for_linkers(&self, stop: &dyn Fn() -> bool) -> Result<bool, StoreError> {
        let mut patience = Patience::default();
        while self.exclusive_within(patience.time())?.is_none() {
            if stop() {
                return Ok(false);
            }
            patience.pause();
        }
        Ok(true)
    }

    /// Makes this the only collection, or says that another one is under way.
    pub(super) fn collecting(&self) -> Result<Option<Collecting>, StoreError> {
        let files = &self.0;
        let Some(collect) = open(&files.collect)? else {
            return Ok(Some(Collecting { _collect: None }));
        };
        match collect.try_lock() {
            Ok(()) => Ok(Some(Collecting {
                _collect: Some(collect),
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).context("lock", &files.collect),
        }
    }
}

/// For reading, which is enough to lock it: it may be another user's who collected by hand once.
/// `None` where nobody can write, so that there is nothing to keep apart.
fn open(path: &Path) -> Result<Option<File>, StoreError> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match publish::open_staged(path) {
            Err(StoreError::ReadOnly(_)) => Ok(None),
            opened => opened.map(Some),
        },
        opened => opened.map(Some).context("open", path),
    }
}

fn lock_within(file: &File, patience: Duration) -> io::Result<bool> {
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if started.elapsed() < patience => sleep(PAUSE / 8),
            Err(TryLockError::WouldBlock) => return Ok(false),
        }
    }
}

fn lock_shared(file: &File, patience: Duration) -> io::Result<()> {
    let started = Instant::now();
    let mut pause = PAUSE / 16;
    loop {
        match file.try_lock_shared() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if started.elapsed() < patience => sleep(pause),
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::TimedOut.into()),
        }
        pause = PAUSE.min(pause * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::thread;

    const SHORT: Duration = Duration::from_millis(30);

    fn holds() -> (tempfile::TempDir, Holds) {
        let root = tempfile::tempdir().unwrap();
        let holds = Holds::make(root.path()).unwrap();
        (root, holds)
    }

    #[test]
    fn many_may_link_while_nothing_is_removed_and_none_while_something_is() {
        let (_root, holds) = holds();
        let linking = [holds.shared().unwrap(), holds.shared().unwrap()];
        thread::scope(|threads| {
            let removing = threads.spawn(|| holds.exclusive().unwrap());
            // It waits for the two, with the turnstile shut.
            while holds.shared_within(Duration::ZERO).is_ok() {}
            assert!(!removing.is_finished());
            drop(linking);
            let removing = removing.join().unwrap();
            assert!(holds.shared_within(SHORT).is_err());
            drop(removing);
            assert!(holds.shared().is_ok());
        });
    }

    #[test]
    fn one_who_may_come_back_keeps_nobody_waiting() {
        let (_root, holds) = holds();
        let linking = holds.shared().unwrap();
        assert!(holds.exclusive_within(SHORT / 10).unwrap().is_none());
        assert!(holds.shared_within(Duration::ZERO).is_ok());
        drop(linking);
        let removing = holds.exclusive_within(SHORT).unwrap();
        assert!(removing.is_some() && holds.shared_within(SHORT / 10).is_err());
    }

    #[test]
    fn neither_side_starves() {
        let (_root, holds) = holds();
        let (linked, done) = (AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    while !done.load(Ordering::SeqCst) {
                        let _held = holds.shared().unwrap();
                        linked.fetch_add(1, Ordering::SeqCst);
                        thread::sleep(Duration::from_micros(200));
                    }
                });
            }
            for _ in 0..20 {
                let before = linked.load(Ordering::SeqCst);
                drop(holds.exclusive().unwrap());
                while linked.load(Ordering::SeqCst) < before + 4 {
                    thread::yield_now();
                }
            }
            done.store(true, Ordering::SeqCst);
        });
    }

    #[test]
    fn there_is_one_collection_at_a_time() {
        let (root, holds) = holds();
        let beside = Holds::beside(root.path()).unwrap();
        let first = holds.collecting().unwrap();
        assert!(first.is_some() && beside.collecting().unwrap().is_none());
        drop(first);
        assert!(beside.collecting().unwrap().is_some());
    }

    #[test]
    fn whoever_brings_something_tells_the_server_each_time() {
        let (root, holds) = holds();
        let note = Layout::beside(root.path());
        drop(holds.shared().unwrap());
        assert!(!note.exists(), "the server tells itself nothing");
        let beside = Holds::beside(root.path()).unwrap().telling(root.path());
        let mut seen = std::collections::HashSet::new();
        for _ in 0..3 {
            drop(beside.shared().unwrap());
            let metadata = note.metadata().unwrap();
            assert!(seen.insert(metadata.modified().unwrap()), "a new time");
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn a_tree_that_nobody_prepared_has_no_holds() {
        let root = tempfile::tempdir().unwrap();
        assert!(Holds::beside(root.path()).is_none());
    }
}
