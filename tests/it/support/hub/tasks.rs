//! The hub's tasks: counted, stoppable, and with their panics remembered.

use std::any::Any;
use std::future::Future;
use std::sync::Mutex;

use tokio::task::{JoinError, JoinSet};

use super::lock;

/// Every accept loop and every connection of one hub.
#[derive(Default)]
pub(super) struct Tasks(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    set: JoinSet<()>,
    /// Closed while the hub is down: an accept loop that is just being stopped may still try.
    open: bool,
    panics: Vec<String>,
}

impl Tasks {
    /// Lets tasks be spawned, until the next [`Tasks::stop`] or [`Tasks::abort`].
    pub(super) fn open(&self) {
        lock(&self.0).open = true;
    }

    /// Runs `task`; what it is made of is dropped instead when the hub is down.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let inner = &mut *lock(&self.0);
        if inner.open {
            inner.set.spawn(task);
        }
        inner.collect();
    }

    /// Ends all tasks and waits until they have let go of their sockets.
    pub(super) async fn stop(&self) {
        let mut set = {
            let inner = &mut *lock(&self.0);
            inner.open = false;
            std::mem::take(&mut inner.set)
        };
        set.abort_all();
        while let Some(ended) = set.join_next().await {
            lock(&self.0).remember(ended);
        }
    }

    /// Ends all tasks without waiting, for a `Drop`.
    pub(super) fn abort(&self) {
        let inner = &mut *lock(&self.0);
        inner.open = false;
        inner.collect();
        inner.set.abort_all();
    }

    /// What panicked since the last time somebody asked.
    pub(super) fn panics(&self) -> Vec<String> {
        let inner = &mut *lock(&self.0);
        inner.collect();
        std::mem::take(&mut inner.panics)
    }
}

impl Inner {
    fn collect(&mut self) {
        while let Some(ended) = self.set.try_join_next() {
            self.remember(ended);
        }
    }

    fn remember(&mut self, ended: Result<(), JoinError>) {
        if let Err(error) = ended
            && let Ok(panic) = error.try_into_panic()
        {
            self.panics.push(message(&*panic));
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message").to_owned()
}
