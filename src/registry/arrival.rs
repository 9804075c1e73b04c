//! When a request came: what was looked at on the disk since then counts for it.
//!
//! See [`Moment`]. Where many ask at the same time, each lets the others in that have come by now
//! before it looks; then one look is for all of them.

use std::pin::Pin;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::store::Moment;

/// So many requests within two milliseconds are many.
const MANY: u64 = 16;

tokio::task_local! {
    static ARRIVED: Option<Moment>;
}

/// Does the work of a request that has come just now, at `started`. One that changes something, or
/// takes its time, looks at the disk for itself.
pub async fn arrived<T>(
    started: Instant,
    is_pull: bool,
    work: Pin<&mut impl Future<Output = T>>,
) -> T {
    let moment = is_pull.then(Moment::now);
    if is_pull && RATE.counts_many(started) {
        tokio::task::yield_now().await;
    }
    ARRIVED.scope(moment, work).await
}

/// Since when a look at the disk counts for who is asking.
pub(super) fn since() -> Moment {
    let moment = ARRIVED.try_with(|moment| *moment).ok().flatten();
    moment.unwrap_or_else(Moment::now)
}

/// How many come.
struct Rate {
    started: Instant,
    millisecond: AtomicU64,
    /// In this millisecond, and in the one before.
    count: AtomicU64,
    before: AtomicU64,
}

static RATE: LazyLock<Rate> = LazyLock::new(Rate::new);

impl Rate {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            millisecond: AtomicU64::new(0),
            count: AtomicU64::new(0),
            before: AtomicU64::new(0),
        }
    }

    /// Counts one more, and says whether they are many. Two that count at the same moment may spoil
    /// each other's count; it is no more than a hint.
    fn counts_many(&self, now: Instant) -> bool {
        let elapsed = now.duration_since(self.started).as_millis();
        self.counts_many_at(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    fn counts_many_at(&self, now: u64) -> bool {
        let last = self.millisecond.load(Ordering::Relaxed);
        if last != now {
            self.millisecond.store(now, Ordering::Relaxed);
            let count = self.count.swap(0, Ordering::Relaxed);
            let before = if now == last + 1 { count } else { 0 };
            self.before.store(before, Ordering::Relaxed);
        }
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        count + self.before.load(Ordering::Relaxed) >= MANY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_many_within_two_milliseconds_only() {
        let rate = Rate::new();
        for now in [10, 20, 30] {
            for _ in 0..MANY - 1 {
                assert!(!rate.counts_many_at(now));
            }
        }
        assert!(rate.counts_many_at(31));
        assert!(!rate.counts_many_at(40));
    }
}
