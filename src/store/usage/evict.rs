//! Evicting: what goes is chosen with the books at hand, and goes in batches with nobody linking.

use std::fmt::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::store::hold::Patience;
use crate::store::layout::Layout;
use crate::store::{StoreError, publish};

use super::choose::{Demand, Kept, choose, spared};
use super::clock::Age;
use super::remove::Remover;
use super::walk::Beside;
use super::{Accounts, lock};

/// What was pulled in this time before stays: whoever pulled a manifest is about to ask for its
/// layers.
const JUST_USED: Duration = Duration::from_mins(1);

/// How many images are chosen at a time.
const ROUND: usize = 1024;

/// For how long it lets the others work at least after each batch: for two of their tries.
const BREAK: Duration = Duration::from_micros(500);

/// What is to be evicted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Order {
    /// So many bytes are to come free,
    pub bytes: u64,
    /// and so many inodes.
    pub inodes: u64,
    /// Images that nobody used for this long go too.
    pub unused_for: Option<Duration>,
    /// For the log: on whose behalf.
    pub why: &'static str,
}

/// What was evicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Images, and layers that belong to none.
    pub images: usize,
    /// Bytes of data.
    pub bytes: u64,
    /// Whether it was as much as was asked for.
    pub is_enough: bool,
    /// Whether the tree has to be walked once more before anything can be evicted.
    pub is_stale: bool,
    /// How long one who linked something meanwhile had to wait for it at most, each time.
    pub longest_hold: Duration,
}

impl Accounts {
    /// Evicts the least recently used images until that is enough, or nothing may go any more.
    /// Who links something meanwhile waits for a few milliseconds at most; who reads, not at all.
    pub fn evict(
        &self,
        order: Order,
        kept: &Kept,
        stop: &dyn Fn() -> bool,
    ) -> Result<Evicted, StoreError> {
        let _only = lock(&self.evicting);
        let now = self.now();
        let demand = Demand {
            bytes: order.bytes,
            inodes: order.inodes,
            unused_since: order.unused_for.map(|unused| now.before(unused)),
            spare: now.before(JUST_USED),
        };
        let mut remover = Remover::new(&self.store, demand);
        let images = self.run(&mut remover, (order, kept), now, stop);
        // What it did not come to is no less unlinked.
        self.books().remains.extend(remover.left());
        Ok(Evicted {
            images: images?,
            bytes: remover.bytes,
            is_enough: remover.is_enough(),
            is_stale: remover.is_stale,
            longest_hold: remover.longest_hold,
        })
    }

    fn run(
        &self,
        remover: &mut Remover<'_>,
        (order, kept): (Order, &Kept),
        now: Age,
        stop: &dyn Fn() -> bool,
    ) -> Result<usize, StoreError> {
        let mut images = 0;
        loop {
            let before = (remover.bytes, remover.inodes);
            let unlinked = self.choose(remover, kept);
            if !remover.has_more() {
                break;
            }
            let note = Layout::evicting(&self.store.inner.root);
            // On a full disk it may not be possible; then a kill leaves what a collection removes.
            if let Err(error) = publish::write_hint(&note, unlinked.as_bytes()) {
                tracing::debug!(%error, "not written down");
            }
            while remover.has_more() && !stop() && !remover.is_stale {
                self.batch(remover)?;
                for gone in remover.gone.drain(..) {
                    images += 1;
                    let unused = humantime::format_duration(whole(now.since(gone.used)));
                    let (image, bytes) = (gone.image, gone.bytes);
                    tracing::info!(image, bytes, %unused, "evicted: {}", order.why);
                }
            }
            if remover.has_more() {
                break;
            }
            publish::unlink(&note)?;
            if before == (remover.bytes, remover.inodes) {
                break;
            }
        }
        Ok(images)
    }

    /// Decides what goes next, and says which data that is.
    fn choose(&self, remover: &mut Remover<'_>, kept: &Kept) -> String {
        let mut books = self.caught_up();
        let remains = std::mem::take(&mut books.remains);
        remover.add_husks(std::mem::take(&mut books.husks));
        let Some(picture) = &books.picture else {
            return String::new();
        };
        remover.spared = spared(picture, kept);
        let demand = Demand {
            bytes: remover.demand.bytes.saturating_sub(remover.bytes),
            inodes: remover.demand.inodes.saturating_sub(remover.inodes),
            ..remover.demand
        };
        let choice = choose(picture, &remover.spared, demand, ROUND);
        let mut unlinked = String::new();
        for id in remains.iter().chain(&choice.data) {
            if let Some(digest) = books.digest(*id) {
                // Writing to a string does not fail.
                _ = writeln!(unlinked, "{digest}");
            }
        }
        remover.add(choice.units, remains);
        unlinked
    }

    /// A few removals, with nobody linking.
    fn batch(&self, remover: &mut Remover<'_>) -> Result<(), StoreError> {
        let mut patience = Patience::default();
        // The books first: whoever has them may take a while, and nobody is to wait for him.
        let (mut books, alone) = loop {
            let books = self.caught_up();
            let tried = Instant::now();
            if let Some(alone) = self.store.holds().exclusive_within(patience.time())? {
                break (books, alone);
            }
            drop(books);
            remover.longest_hold = remover.longest_hold.max(tried.elapsed());
            patience.pause();
        };
        let started = Instant::now();
        self.catch_up(&mut books);
        if Beside::of(&self.store) != books.beside {
            remover.is_stale = true;
            return Ok(());
        }
        let open = remover.batch(&mut books);
        self.note_cached(&books);
        remover.longest_hold = remover.longest_hold.max(alone.release());
        drop(books);
        let took = started.elapsed();
        drop(open?);
        self.store.let_go();
        // Those who wait get their turn; the disk may be busy with what was removed.
        sleep(took.clamp(BREAK, BREAK * 40));
        Ok(())
    }
}

/// Without the fractions of a second that nobody wants to read.
fn whole(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}
