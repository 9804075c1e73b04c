//! Room for what is fetched.

use super::Registry;

/// Space that is kept for a fill until it is dropped.
#[derive(Debug)]
pub(super) struct Reservation;

impl Registry {
    /// Makes sure that so many more bytes can be stored, and keeps them for the caller. `None`
    /// where that cannot be had: what comes is then not stored.
    #[expect(clippy::unused_async, reason = "room is made on the disk")]
    pub(super) async fn reserve(&self, _bytes: u64) -> Option<Reservation> {
        Some(Reservation)
    }

    /// Makes room on a disk that has turned out to be full, for so many more bytes. Says whether
    /// it is worth trying again.
    #[expect(clippy::unused_async, reason = "room is made on the disk")]
    pub(super) async fn make_room(&self, _bytes: u64) -> bool {
        false
    }
}
