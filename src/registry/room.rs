//! Room for what is fetched.
//!
//! Before a fill begins, its bytes are reserved, so that two of them do not rely on the same ones.
//! What is missing is evicted. `cache.minfree` is a soft mark: when nothing may be evicted any
//! more, fills are still stored for as long as a tenth of it stays free.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OwnedMutexGuard;

use crate::store::{Accounts, Evicted, Order, Space, Store};

use super::keeping::{Keeping, Shortage, Standing};
use super::{Registry, blocking};

/// The longest that a fill waits for room.
const PATIENCE: Duration = Duration::from_secs(5);

/// For how long an eviction on behalf of the disk is given credit: what somebody is still reading
/// is given back only when he is done.
const CREDIT: Duration = Duration::from_secs(10);

/// So many inodes come free with whatever is evicted because the disk said no.
const SOME_INODES: u64 = 64;

/// What is kept account of, and what is reserved.
pub(super) struct Room {
    pub(super) accounts: Arc<Accounts>,
    reserved: Mutex<Reserved>,
    /// One at a time looks at what there is and evicts: the next may find that it is enough.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// When something was last evicted on behalf of the disk.
    relieved: Mutex<Option<Instant>>,
    pub(super) evicted_images: AtomicU64,
    pub(super) evicted_bytes: AtomicU64,
    has_warned: AtomicBool,
    /// Somebody has linked something beside this process.
    pub(super) stale: tokio::sync::Notify,
}

/// Nobody else looks and evicts while this lives.
pub(super) struct Turn(#[expect(dead_code, reason = "it is held")] OwnedMutexGuard<()>);

#[derive(Clone, Copy, Debug, Default)]
struct Reserved {
    bytes: u64,
    arrived: u64,
    fills: u64,
}

/// Space that is kept for a fill until it is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    room: Arc<Room>,
    bytes: u64,
    arrived: AtomicU64,
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room")
            .field("reserved", &self.reserved())
            .finish_non_exhaustive()
    }
}

impl Room {
    pub(super) fn new(store: Store) -> Self {
        Self {
            accounts: Arc::new(Accounts::new(store)),
            reserved: Mutex::default(),
            turn: Arc::default(),
            relieved: Mutex::default(),
            evicted_images: AtomicU64::new(0),
            evicted_bytes: AtomicU64::new(0),
            has_warned: AtomicBool::new(false),
            stale: tokio::sync::Notify::new(),
        }
    }

    fn reserved(&self) -> Reserved {
        *self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, work: impl FnOnce(&mut Reserved)) {
        work(&mut self.reserved.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// How things stand. `None` where the disk cannot be looked at: then nothing is too little.
    pub(super) async fn standing(&self) -> Option<Standing> {
        let accounts = Arc::clone(&self.accounts);
        let looked = blocking(move || Ok((accounts.cached(), accounts.space()?)));
        let (cached, space) = looked.await.ok()?;
        let reserved = self.reserved();
        Some(Standing {
            cached,
            promised: reserved.bytes,
            missing: reserved.bytes.saturating_sub(reserved.arrived),
            fills: reserved.fills,
            space,
        })
    }

    /// Waits for one's turn to look at what there is, and to evict.
    pub(super) async fn turn(&self) -> Turn {
        Turn(Arc::clone(&self.turn).lock_owned().await)
    }

    /// Whether what was evicted for the disk may not have been given back yet.
    pub(super) fn was_just_relieved(&self) -> bool {
        let relieved = self.relieved.lock().unwrap_or_else(PoisonError::into_inner);
        relieved.is_some_and(|at| at.elapsed() < CREDIT)
    }

    pub(super) fn relieve(&self) {
        let mut relieved = self.relieved.lock().unwrap_or_else(PoisonError::into_inner);
        *relieved = Some(Instant::now());
    }

    fn warn(&self, text: &str) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!("{text}");
        }
    }

    /// It has become better: the next time it is worth a line again.
    pub(super) fn is_well(&self) {
        self.has_warned.store(false, Ordering::Relaxed);
    }
}

impl Reservation {
    fn new(room: &Arc<Room>, bytes: u64) -> Self {
        room.change(|reserved| {
            reserved.bytes = reserved.bytes.saturating_add(bytes);
            reserved.fills += 1;
        });
        Self {
            room: Arc::clone(room),
            bytes,
            arrived: AtomicU64::new(0),
        }
    }

    /// So many of the bytes are on the disk by now.
    pub(super) fn arrived(&self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        let before = self.arrived.fetch_max(bytes, Ordering::Relaxed);
        self.room.change(|reserved| {
            reserved.arrived = reserved
                .arrived
                .saturating_add(bytes.saturating_sub(before));
        });
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let arrived = self.arrived.load(Ordering::Relaxed);
        self.room.change(|reserved| {
            reserved.bytes = reserved.bytes.saturating_sub(self.bytes);
            reserved.arrived = reserved.arrived.saturating_sub(arrived);
            reserved.fills = reserved.fills.saturating_sub(1);
        });
    }
}

/// Whether there is room.
enum Verdict {
    Yes,
    /// For now: what there is should be more.
    Hardly,
    No(Shortage),
}

impl Registry {
    /// Makes sure that so many more bytes can be stored, and keeps them for the caller. `None`
    /// where that cannot be had: what comes is then not stored.
    pub(super) async fn reserve(&self, bytes: u64) -> Option<Reservation> {
        let (room, policy) = (&self.inner.room, self.policy());
        let keeping = &policy.settings.keeping;
        if let Some(most) = keeping.max_size.filter(|most| bytes > *most) {
            room.warn(&format!(
                "a blob of {bytes} bytes does not fit into the cache of {most}: raise cache.maxsize"
            ));
            return None;
        }
        let reservation = Reservation::new(room, bytes);
        // Others may be at it for long; what is over for a moment is evicted in the background.
        let verdict = tokio::time::timeout(PATIENCE, self.look_for_room(keeping)).await;
        let verdict = match verdict {
            Ok(verdict) => verdict,
            Err(_) => self.judge(keeping, false).await,
        };
        match verdict {
            Verdict::Yes => Some(reservation),
            Verdict::Hardly => {
                room.warn(
                    "less than cache.minfree is left on the disk, and nothing may be evicted: mirrored content is stored for as long as a tenth of that is free; free some space, or pin less",
                );
                Some(reservation)
            }
            Verdict::No(shortage) => {
                let key = if shortage.is_hard { "disk" } else { "cache" };
                room.warn(&format!(
                    "no room for {bytes} more bytes, and nothing may be evicted: the {key} is full; free some space, raise cache.maxsize, or pin less"
                ));
                None
            }
        }
    }

    /// Evicts so many bytes now, as the disk would not take them, and some inodes. Says whether it
    /// is worth trying again.
    pub async fn make_room(&self, bytes: u64) -> bool {
        let order = Order {
            bytes: bytes.max(1),
            inodes: SOME_INODES,
            unused_for: None,
            why: "the disk is full",
        };
        let turn = self.inner.room.turn().await;
        let evicted = self.evict(order, turn).await;
        evicted.is_some_and(|evicted| evicted.bytes > 0)
    }

    async fn look_for_room(&self, keeping: &Keeping) -> Verdict {
        if let Verdict::Yes = self.judge(keeping, true).await {
            return Verdict::Yes;
        }
        let room = &self.inner.room;
        let turn = room.turn().await;
        let Some(standing) = room.standing().await else {
            return Verdict::Yes;
        };
        let shortage = keeping.shortage(&standing);
        let is_credited = shortage.over == 0 && !shortage.is_hard && room.was_just_relieved();
        if shortage.is_none() || is_credited {
            return Verdict::Yes;
        }
        self.relieve(keeping, (&shortage, &standing.space), turn)
            .await;
        self.judge(keeping, true).await
    }

    /// Evicts what is short.
    pub(super) async fn relieve(
        &self,
        keeping: &Keeping,
        (shortage, space): (&Shortage, &Space),
        turn: Turn,
    ) -> Option<Evicted> {
        let order = keeping.order(shortage, space);
        let evicted = self.evict(order, turn).await?;
        if shortage.is_of_disk() && evicted.bytes > 0 {
            self.inner.room.relieve();
        }
        Some(evicted)
    }

    async fn judge(&self, keeping: &Keeping, bounded: bool) -> Verdict {
        let Some(standing) = self.inner.room.standing().await else {
            return Verdict::Yes;
        };
        let shortage = keeping.shortage(&standing);
        if shortage.is_hard || (bounded && shortage.over > 0) {
            Verdict::No(shortage)
        } else if shortage.is_of_disk() {
            Verdict::Hardly
        } else {
            Verdict::Yes
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> (tempfile::TempDir, Arc<Room>) {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        (root, Arc::new(Room::new(store)))
    }

    #[tokio::test]
    async fn what_has_arrived_is_not_missing_any_more_and_what_is_dropped_is_not_promised() {
        let (_root, room) = room();
        let stands = async || {
            let standing = room.standing().await.unwrap();
            (standing.promised, standing.missing, standing.fills)
        };
        let first = Reservation::new(&room, 100);
        let second = Reservation::new(&room, 10);
        assert_eq!(stands().await, (110, 110, 2));
        // It is said how many there are, and not how many more.
        for (arrived, missing) in [(40, 70), (30, 70), (60, 50), (1000, 10)] {
            first.arrived(arrived);
            assert_eq!(stands().await, (110, missing, 2), "{arrived}");
        }
        drop(first);
        assert_eq!(stands().await, (10, 10, 1));
        drop(second);
        assert_eq!(stands().await, (0, 0, 0));
    }

    #[test]
    fn an_eviction_is_given_credit_for_a_while() {
        let (_root, room) = room();
        assert!(!room.was_just_relieved());
        room.relieve();
        assert!(room.was_just_relieved());
        let long_ago = Instant::now().checked_sub(CREDIT);
        *room.relieved.lock().unwrap() = long_ago;
        assert!(!room.was_just_relieved());
    }
}
