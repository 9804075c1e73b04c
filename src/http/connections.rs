//! How many connections there are, and which one goes when there is no room for another.
//!
//! A connection costs a file descriptor and memory, so there is a number that they may be. When it
//! is reached, those go first on which nobody asks for anything: the one that waits longest for its
//! client's next request, or for the rest of one, or of a TLS handshake. So no number of clients
//! that only hold connections keeps others out. Where all of them are being answered, the next
//! client waits in the kernel's queue until one has its answer.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// What a client may take before its connection goes for another's, however many there are.
const GRACE: Duration = Duration::from_secs(1);

/// How long it may take to leave.
const FAREWELL: Duration = Duration::from_secs(1);

/// How few connections there may be, however few files.
const FEWEST: usize = 4;

/// The pause before it is looked again whether there is room, or a file descriptor.
const BREATHER: Duration = Duration::from_millis(100);

/// For how long a trouble must be over before it counts as over, so that one that comes and goes is
/// said once.
const OVER: Duration = Duration::from_secs(10);

/// The connections of a server. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connections(Arc<All>);

struct All {
    most: usize,
    began: Instant,
    open: Mutex<Open>,
    ended: Notify,
}

#[derive(Default)]
struct Open {
    next: u64,
    slots: HashMap<u64, Arc<Slot>>,
    /// How many there may be while there are too few files for as many as there should be.
    most: Option<usize>,
    full: Trouble,
    starved: Trouble,
}

/// Something that is said once in the log, as long as it lasts.
#[derive(Default)]
struct Trouble {
    last: Option<Instant>,
    is_said: bool,
}

impl Trouble {
    /// It is so now. Says whether that is news.
    fn is_on(&mut self) -> bool {
        self.last = Some(Instant::now());
        !std::mem::replace(&mut self.is_said, true)
    }

    /// It is not so now. Says whether it was, and is over.
    fn is_over(&mut self) -> bool {
        let is_over = self.is_said && self.last.is_none_or(|last| last.elapsed() > OVER);
        self.is_said &= !is_over;
        is_over
    }
}

/// What is known of one connection from outside.
pub(super) struct Slot {
    began: Instant,
    /// Since when the client is waited for, in milliseconds after `began`; [`BUSY`] while it waits.
    waits_since: AtomicU64,
    /// Whether something waits to be written to it.
    is_blocked: AtomicBool,
    leave: CancellationToken,
}

const BUSY: u64 = u64::MAX;

impl Slot {
    /// Says that the client waits for an answer, or that its last one is out.
    pub(super) fn is_answered(&self, is: bool) {
        let since = if is {
            let elapsed = self.began.elapsed().as_millis();
            u64::try_from(elapsed).unwrap_or(BUSY - 1)
        } else {
            BUSY
        };
        self.waits_since.store(since, Ordering::Relaxed);
    }

    /// Since when it waits for its client, in milliseconds.
    fn waits_since(&self) -> Option<u64> {
        let since = self.waits_since.load(Ordering::Relaxed);
        (since != BUSY).then_some(since)
    }

    pub(super) fn set_blocked(&self, is_blocked: bool) {
        self.is_blocked.store(is_blocked, Ordering::Relaxed);
    }

    /// Whether something waits to be written: then it is the kernel that knows whether the client
    /// takes anything.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked.load(Ordering::Relaxed)
    }
}

/// A connection's place. Given back when it is dropped.
pub(super) struct Seat {
    all: Arc<All>,
    id: u64,
    slot: Arc<Slot>,
}

/// A request that is being answered.
pub(super) struct Occupying(Arc<Slot>);

impl Connections {
    /// None yet, and never more than `most`.
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(All {
            most: most.max(1),
            began: Instant::now(),
            open: Mutex::default(),
            ended: Notify::new(),
        }))
    }

    /// A place for one more. It has to leave when `stop` is cancelled, at the latest.
    pub(super) fn take(&self, stop: &CancellationToken) -> Seat {
        let slot = Arc::new(Slot {
            began: self.0.began,
            waits_since: AtomicU64::new(0),
            is_blocked: AtomicBool::new(false),
            leave: stop.child_token(),
        });
        slot.is_answered(true);
        let mut open = self.0.open();
        self.fed(&mut open);
        let id = open.next;
        open.next += 1;
        open.slots.insert(id, Arc::clone(&slot));
        let all = Arc::clone(&self.0);
        Seat { all, id, slot }
    }

    /// Waits until there is room for one more.
    pub(super) async fn room(&self) {
        let most = self.0.most;
        loop {
            let ended = self.0.ended.notified();
            let is_news = {
                let open = &mut *self.0.open();
                let count = open.slots.len();
                if count < open.most.unwrap_or(most) {
                    return;
                }
                count >= most && open.full.is_on()
            };
            if is_news {
                tracing::warn!(
                    connections = most,
                    "there are as many connections as there may be: those that idle longest are closed for new ones. If so many clients are meant to be served, raise http.connections, and with it the limit of open files"
                );
            }
            self.make_room();
            // As some may only now have waited long enough, this is not left to those that end.
            drop(tokio::time::timeout(BREATHER, ended).await);
        }
    }

    /// A connection could not be accepted.
    pub(super) async fn starved(&self, error: &io::Error) {
        if !is_want(error) {
            // That connection's own trouble: it was reset before it was accepted, most likely.
            tracing::debug!(%error, "a connection could not be accepted");
            return;
        }
        let is_news = {
            let open = &mut *self.0.open();
            // Else each file that is closed would become a connection, and none an answer.
            open.most = Some((open.slots.len() / 4 * 3).max(FEWEST));
            open.starved.is_on()
        };
        if is_news {
            tracing::error!(
                %error,
                "no connection can be accepted now: it is tried again until there are files to open, and idle connections are closed. Raise the limit of open files (LimitNOFILE= of a systemd unit, --ulimit nofile= of docker, ulimit -n), or lower http.connections"
            );
        }
        let ended = self.0.ended.notified();
        self.make_room();
        drop(tokio::time::timeout(BREATHER, ended).await);
    }

    /// A connection was accepted.
    fn fed(&self, open: &mut Open) {
        if open.slots.len() < self.0.most {
            // Only that it is over is noted: it may come back, and is news then.
            open.full.is_over();
        }
        if open.starved.is_over() {
            open.most = None;
            tracing::info!("connections are accepted again");
        }
    }

    /// Has a hundredth of the connections leave, those that have waited longest for their clients.
    fn make_room(&self) {
        let now = u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(BUSY);
        let grace = u64::try_from(GRACE.as_millis()).unwrap_or(BUSY);
        let open = self.0.open();
        let waiting = |slot: &Arc<Slot>| {
            let since = slot.waits_since()?;
            let may_stay = since.saturating_add(grace) > now || slot.leave.is_cancelled();
            (!may_stay).then(|| (since, Arc::clone(slot)))
        };
        let mut waiting: Vec<_> = open.slots.values().filter_map(waiting).collect();
        let count = open.slots.len().div_ceil(100);
        drop(open);
        waiting.sort_unstable_by_key(|(since, _)| *since);
        for (_, slot) in waiting.iter().take(count) {
            slot.leave.cancel();
        }
    }
}

/// Whether it is for want of something that a connection cannot be accepted.
fn is_want(error: &io::Error) -> bool {
    let wants = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| wants.contains(&errno))
}

impl All {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Waits until the connection is to end as soon as its answers are out.
    pub(super) fn leaving(&self) -> WaitForCancellationFuture<'_> {
        self.slot.leave.cancelled()
    }

    /// Waits until it has been told to leave for another, and has had time to.
    pub(super) async fn overstayed(&self, stop: &CancellationToken) {
        loop {
            tokio::time::sleep(FAREWELL).await;
            let is_idle = self.slot.waits_since().is_some();
            if self.slot.leave.is_cancelled() && is_idle && !stop.is_cancelled() {
                return;
            }
        }
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.all.open().slots.remove(&self.id);
        self.all.ended.notify_one();
    }
}

impl Occupying {
    pub(super) fn new(slot: &Arc<Slot>) -> Self {
        slot.is_answered(false);
        Self(Arc::clone(slot))
    }
}

impl Drop for Occupying {
    fn drop(&mut self) {
        self.0.is_answered(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As if it had begun to wait so long ago.
    fn aged(seat: &Seat, age: u64) {
        seat.slot
            .waits_since
            .store(100_000 - age, Ordering::Relaxed);
    }

    fn crowded(most: usize) -> (Connections, CancellationToken) {
        let connections = Connections(Arc::new(All {
            most,
            began: Instant::now()
                .checked_sub(Duration::from_secs(100))
                .unwrap(),
            open: Mutex::default(),
            ended: Notify::new(),
        }));
        (connections, CancellationToken::new())
    }

    #[tokio::test]
    async fn who_waits_longest_goes_and_who_is_answered_stays() {
        let (connections, stop) = crowded(3);
        let [first, second, third] = std::array::from_fn(|_| connections.take(&stop));
        let answering = Occupying::new(first.slot());
        aged(&second, 10_000);
        aged(&third, 20_000);
        let leaving = async {
            third.leaving().await;
            drop(third);
        };
        tokio::join!(connections.room(), leaving);
        assert!(!second.slot.leave.is_cancelled());
        assert!(!first.slot.leave.is_cancelled());
        // Nobody goes who has just come, or has just been answered.
        let fourth = connections.take(&stop);
        drop(answering);
        fourth.slot.is_answered(true);
        second.slot.is_answered(true);
        connections.make_room();
        let seats = [&first, &second, &fourth];
        assert!(seats.iter().all(|seat| !seat.slot.leave.is_cancelled()));
        stop.cancel();
        assert!(seats.iter().all(|seat| seat.slot.leave.is_cancelled()));
    }

    #[tokio::test]
    async fn without_files_fewer_connections_are_let_in_until_it_is_over() {
        let (connections, stop) = crowded(100);
        let mut seats: Vec<_> = (0..8).map(|_| connections.take(&stop)).collect();
        let want = io::Error::from_raw_os_error(Errno::MFILE.raw_os_error());
        connections.starved(&want).await;
        assert_eq!(connections.0.open().most, Some(6));
        // Else each file that is closed would become a connection.
        let waits = async |connections: &Connections| {
            let room = connections.room();
            tokio::time::timeout(Duration::from_millis(1), room)
                .await
                .is_err()
        };
        seats.truncate(6);
        assert!(waits(&connections).await);
        seats.truncate(5);
        assert!(!waits(&connections).await);
        seats.truncate(1);
        connections.starved(&want).await;
        assert_eq!(connections.0.open().most, Some(FEWEST));
    }

    #[test]
    fn a_trouble_is_said_once_and_again_when_it_was_over() {
        let mut trouble = Trouble::default();
        assert!(!trouble.is_over());
        assert!(trouble.is_on());
        assert!(!trouble.is_on());
        assert!(!trouble.is_over(), "it may come back");
        trouble.last = None;
        assert!(trouble.is_over());
        assert!(!trouble.is_over());
        assert!(trouble.is_on());
    }

    #[tokio::test]
    async fn want_makes_room_and_other_trouble_does_not() {
        let (connections, stop) = crowded(10);
        let seat = connections.take(&stop);
        aged(&seat, 5_000);
        let reset = io::Error::from_raw_os_error(Errno::CONNABORTED.raw_os_error());
        connections.starved(&reset).await;
        assert!(!seat.slot.leave.is_cancelled());
        let want = io::Error::from_raw_os_error(Errno::MFILE.raw_os_error());
        connections.starved(&want).await;
        assert!(seat.slot.leave.is_cancelled());
    }

    #[test]
    fn trouble_is_said_once_and_again_when_it_comes_back() {
        let mut trouble = Trouble::default();
        assert!(!trouble.is_over());
        assert!(trouble.is_on() && !trouble.is_on());
        assert!(!trouble.is_over(), "it may come and go");
        trouble.last = Instant::now().checked_sub(OVER * 2);
        assert!(trouble.is_over() && !trouble.is_over());
        assert!(trouble.is_on());
    }
}
