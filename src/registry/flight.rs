//! Single flight: many ask, one does it, all get the answer.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::Tasks;

/// The work of one kind that is under way, by what it is about.
///
/// The work runs detached: who asked first may hang up without the others noticing.
pub(super) struct Flights<K, V> {
    running: Running<K, V>,
    tasks: Tasks,
}

type Running<K, V> = Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>;

/// A shared answer, and whether it was another's work.
pub(super) struct Shared<V> {
    pub(super) value: V,
    pub(super) joined: bool,
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new(tasks: Tasks) -> Self {
        Self {
            running: Arc::default(),
            tasks,
        }
    }

    /// Gives the answer of the work under way for `key`, or starts `work`. `None` if the work
    /// ended without an answer.
    pub(super) async fn share<W>(&self, key: &K, work: impl FnOnce() -> W) -> Option<Shared<V>>
    where
        W: Future<Output = V> + Send + 'static,
    {
        let (mut receiver, joined) = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            match running.get(key) {
                Some(receiver) => (receiver.clone(), true),
                None => (self.start(&mut running, key, work()), false),
            }
        };
        let value = receiver.wait_for(Option::is_some).await.ok()?.clone()?;
        Some(Shared { value, joined })
    }

    fn start(
        &self,
        running: &mut HashMap<K, watch::Receiver<Option<V>>>,
        key: &K,
        work: impl Future<Output = V> + Send + 'static,
    ) -> watch::Receiver<Option<V>> {
        let (sender, receiver) = watch::channel(None);
        running.insert(key.clone(), receiver.clone());
        // Made before the spawn: a task that never runs, or panics, leaves no entry behind.
        let entry = Entry {
            running: Arc::clone(&self.running),
            key: key.clone(),
        };
        self.tasks.spawn(async move {
            let value = work.await;
            // The entry goes first: who comes after the answer must not find the old one.
            drop(entry);
            sender.send_replace(Some(value));
        });
        receiver
    }
}

/// Removes the work from the table, however it ends.
struct Entry<K: Eq + Hash, V> {
    running: Running<K, V>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for Entry<K, V> {
    fn drop(&mut self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    fn flights() -> Arc<Flights<u8, usize>> {
        Arc::new(Flights::new(Tasks::default()))
    }

    #[tokio::test]
    async fn many_ask_and_one_does_it() {
        let (flights, calls, go) = (
            flights(),
            Arc::new(AtomicUsize::new(0)),
            Arc::new(Notify::new()),
        );
        let ask = || async {
            let (calls, go) = (Arc::clone(&calls), Arc::clone(&go));
            let work = || async move {
                go.notified().await;
                calls.fetch_add(1, Ordering::SeqCst)
            };
            flights
                .share(&1, work)
                .await
                .map(|shared| (shared.value, shared.joined))
        };
        let (a, b, ()) = tokio::join!(ask(), ask(), async { go.notify_one() });
        assert_eq!((a, b), (Some((0, false)), Some((0, true))));
        go.notify_one();
        assert_eq!(ask().await, Some((1, false)));
    }

    #[tokio::test]
    async fn who_asked_first_may_go_away() {
        let (flights, go) = (flights(), Arc::new(Notify::new()));
        let held = Arc::clone(&go);
        let first = flights.share(&1, || async move {
            held.notified().await;
            7
        });
        let mut first = Box::pin(first);
        assert!(futures_util::poll!(&mut first).is_pending());
        drop(first);
        let second = flights.share(&1, || async { unreachable!("the first goes on") });
        go.notify_one();
        let shared = second.await.map(|shared| (shared.value, shared.joined));
        assert_eq!(shared, Some((7, true)));
    }

    #[tokio::test]
    async fn work_that_panics_is_an_error_and_leaves_nothing_behind() {
        let flights = flights();
        assert!(
            flights
                .share(&1, || async { panic!("on purpose") })
                .await
                .is_none()
        );
        assert_eq!(
            flights
                .share(&1, || async { 3 })
                .await
                .map(|shared| shared.value),
            Some(3)
        );
    }
}
