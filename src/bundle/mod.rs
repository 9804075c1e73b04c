//! Bundles: images carried in one file, an OCI image layout in a tar archive.
//!
//! This module owns what such a file looks like, what goes into it, and what is taken out of files
//! that others made, hostile ones among them. It works on the store as it is, beside a server or
//! alone, asks no upstream, and knows of no terminal: how far it is, it tells a [`Watch`].
//!
//! Reading order: `form` (what is in the file beside the blobs), `plan`, `attached` and `export`
//! (writing one), `tar` (judging one by its headers), `archive` (which images are in it), `along`
//! (what is attached to them), `place` (where they belong), `import`, `taken`.

mod along;
mod archive;
mod attached;
mod docker;
mod error;
mod export;
mod form;
mod gather;
mod import;
mod place;
mod plan;
mod taken;
mod tar;
mod tree;

use std::sync::{Mutex, PoisonError};
use std::thread;

pub use archive::{Archive, Form};
pub use error::{ArchiveError, Bad, ExportError, ImportError, Refusal};
pub use export::Writing;
pub use import::{Import, Ready};
pub use plan::{Carried, Choice, Picked, Plan, Since};
pub use taken::{Done, Taken};

/// How far the work is, and whether to go on with it. Called from several threads.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Hears of so many bytes more that are done.
    pub moved: &'a (dyn Fn(u64) + Sync),
    /// Whether the work is to end early.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

/// How much is read, hashed and written at a time: it stays in a processor's own cache.
const CHUNK: usize = 256 << 10;

/// Does something for each item, several at a time: hashing wants every core, and who waits for
/// the disk wants none. The first error ends it.
fn in_parallel<T: Sync, E: Send>(
    items: &[T],
    workers: usize,
    work: impl Fn(&T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let state = Mutex::new((items.iter(), None));
    let next = || {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            (items, None) => items.next(),
            (_, Some(_)) => None,
        }
    };
    let one_after_another = || {
        while let Some(item) = next() {
            if let Err(error) = work(item) {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                state.1.get_or_insert(error);
            }
        }
    };
    thread::scope(|threads| {
        for _ in 1..workers.min(items.len()) {
            threads.spawn(one_after_another);
        }
        one_after_another();
    });
    let (_, failed) = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), Err)
}

/// One more than there are cores: somebody is always waiting for the disk.
fn workers() -> usize {
    thread::available_parallelism().map_or(2, usize::from) + 1
}
