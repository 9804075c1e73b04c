//! How many files may be open, and what follows from it.
//!
//! Every connection is one, every blob that is being sent another, and every fill two. What a
//! process gets without asking is a thousand (`RLIMIT_NOFILE`, the soft limit); how many it may have
//! (the hard limit) is often half a million.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// With fewer than this a class of clients may run out.
const FEW: u64 = 4096;

/// What is kept for all that is no connection: logs, listening sockets, fills.
const OTHERS: u64 = 64;

/// The most connections where the configuration does not say: what is beyond is no crowd of clients
/// but a flood of them.
const CONNECTIONS: u64 = 20_000;

/// Raises the limit as far as it goes, and says what it is; `None` where there is none.
pub(super) fn raise() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be raised");
            limit.current
        }
    }
}

/// How many connections there may be with so many files: three of four, since an answer needs a
/// file as well, but not all are being answered at a time.
pub(super) fn connections(files: Option<u64>) -> usize {
    let some = files.map_or(CONNECTIONS, |files| files.saturating_sub(OTHERS) / 4 * 3);
    usize::try_from(some.clamp(8, CONNECTIONS)).unwrap_or(usize::MAX)
}

/// Says what the limits are, and what to do where they are low.
pub(super) fn tell(files: Option<u64>, connections: usize) {
    let Some(files) = files else {
        tracing::info!("up to {connections} connections");
        return;
    };
    tracing::info!("up to {connections} connections, and {files} open files");
    let needed = u64::try_from(connections).unwrap_or(u64::MAX);
    if files < FEW || files < needed.saturating_add(OTHERS) {
        tracing::warn!(
            "only {files} files may be open: many clients at once will have to wait. Raise the limit (LimitNOFILE= of a systemd unit, --ulimit nofile= of docker, ulimit -Hn)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_what_they_ask_for() {
        for (files, expected) in [
            (Some(0), 8),
            (Some(1024), 720),
            (Some(20_000), 14_952),
            (Some(1 << 20), 20_000),
            (None, 20_000),
        ] {
            assert_eq!(connections(files), expected, "{files:?}");
        }
    }
}
