//! The answers under way whose body takes a while: blobs.
//!
//! To be listed costs a blob's answer two short inserts into one of several tables, and each of its
//! pieces one addition to a number of its own. Manifests are in memory and out with the first write:
//! they are not listed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::metrics::Outcome;
use crate::oci::{Digest, RepositoryName};

/// How many tables there are, so that nobody waits for another's insert.
const TABLES: usize = 16;

/// An answer under way.
#[derive(Debug)]
pub struct Pull {
    /// From which repository, by its full name.
    pub repository: RepositoryName,
    /// What.
    pub digest: Digest,
    /// Who gets it.
    pub client: IpAddr,
    /// How many bytes the answer has.
    pub size: u64,
    /// How it is made.
    pub outcome: Outcome,
    /// When it began.
    pub since: SystemTime,
    sent: AtomicU64,
}

impl Pull {
    /// How many bytes are out.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Pulls {
    tables: [Mutex<HashMap<u64, Arc<Pull>>>; TABLES],
    count: AtomicU64,
}

/// One of them, for as long as it lives.
#[derive(Debug)]
pub struct Pulling {
    all: Arc<Pulls>,
    number: u64,
    pull: Arc<Pull>,
}

impl Pulls {
    /// Lists an answer of so many bytes that begins now.
    pub fn begin(
        self: &Arc<Self>,
        repository: RepositoryName,
        digest: Digest,
        client: IpAddr,
        (size, outcome): (u64, Outcome),
    ) -> Pulling {
        let pull = Arc::new(Pull {
            repository,
            digest,
            client,
            size,
            outcome,
            since: SystemTime::now(),
            sent: AtomicU64::new(0),
        });
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        self.table(number).insert(number, Arc::clone(&pull));
        Pulling {
            all: Arc::clone(self),
            number,
            pull,
        }
    }

    /// The newest of those that are wanted, newest first, at most so many.
    pub fn newest(&self, most: usize, wanted: impl Fn(&Pull) -> bool) -> Vec<(u64, Arc<Pull>)> {
        let mut found: Vec<(u64, Arc<Pull>)> = Vec::new();
        for table in &self.tables {
            let table = table.lock().unwrap_or_else(PoisonError::into_inner);
            let fitting = table.iter().filter(|(_, pull)| wanted(pull));
            found.extend(fitting.map(|(number, pull)| (*number, Arc::clone(pull))));
        }
        found.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        found.truncate(most);
        found
    }

    fn table(&self, number: u64) -> MutexGuard<'_, HashMap<u64, Arc<Pull>>> {
        let at = usize::try_from(number % TABLES as u64).unwrap_or_default();
        self.tables[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pulling {
    /// So many more bytes are out.
    pub fn sent(&self, bytes: u64) {
        self.pull.sent.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Pulling {
    fn drop(&mut self) {
        self.all.table(self.number).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_listed_while_they_live_the_newest_first() {
        let all: Arc<Pulls> = Arc::default();
        let begin = |name: &str| {
            let (name, digest) = (name.parse().unwrap(), Digest::of(name.as_bytes()));
            all.begin(name, digest, [127, 0, 0, 1].into(), (10, Outcome::Hit))
        };
        let under_way: Vec<Pulling> = (0..40).map(|n| begin(&format!("a{n}"))).collect();
        under_way[39].sent(7);
        let names = |most| {
            let newest = all.newest(most, |pull| pull.repository.as_str() != "a38");
            let names = newest.into_iter();
            names.map(|(_, pull)| (pull.repository.to_string(), pull.sent()))
        };
        let newest: Vec<_> = names(2).collect();
        assert_eq!(newest, [("a39".to_owned(), 7), ("a37".to_owned(), 0)]);
        assert_eq!(names(100).count(), 39);
        drop(under_way);
        assert_eq!(names(100).count(), 0);
    }
}
