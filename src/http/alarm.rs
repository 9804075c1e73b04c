//! How long a client may take for the head of its request.
//!
//! hyper wants a new timer for each head, and drops it when the head is there. tokio's timers are a
//! table for all connections of the process, so that this would be two visits to it for each
//! request. Here a connection has one timer, which goes on running: another deadline is only noted,
//! and where the timer goes off before it, it is set anew.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use tokio::time::{Instant as Deadline, sleep_until};

type Running = Pin<Box<tokio::time::Sleep>>;

/// The timer of one connection, for one who waits at a time.
#[derive(Clone, Default)]
pub(super) struct Alarm(Arc<Mutex<Option<Running>>>);

struct Until {
    alarm: Alarm,
    deadline: Deadline,
}

impl Timer for Alarm {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Until {
            alarm: self.clone(),
            deadline: deadline.into(),
        })
    }

    fn now(&self) -> Instant {
        Deadline::now().into_std()
    }
}

impl Sleep for Until {}

impl Future for Until {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        let mut running = self.alarm.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = running.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if deadline < running.deadline() {
            running.as_mut().reset(deadline);
        }
        loop {
            ready!(running.as_mut().poll(context));
            if running.deadline() >= deadline {
                return Poll::Ready(());
            }
            running.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(30);
    const FOR_EVER: Duration = Duration::from_hours(1000);

    /// Waits that long. That it comes to an end at all is half of what is tested.
    async fn wait(alarm: &Alarm, long: Duration) {
        let began = Instant::now();
        alarm.sleep(long).await;
        assert!(began.elapsed() >= long);
    }

    /// Begins to wait, and gives up.
    async fn begin_to_wait(alarm: &Alarm, long: Duration) {
        let mut waiting = alarm.sleep(long);
        let polled = std::future::poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context)));
        assert!(polled.await.is_pending());
    }

    #[tokio::test]
    async fn who_waits_is_woken_at_his_own_time_whoever_waited_before() {
        let alarm = Alarm::default();
        begin_to_wait(&alarm, FOR_EVER).await;
        wait(&alarm, SHORT).await;
        wait(&alarm, SHORT * 2).await;
        begin_to_wait(&alarm, SHORT).await;
        wait(&alarm, SHORT * 3).await;
        alarm.sleep(Duration::ZERO).await;
    }
}
