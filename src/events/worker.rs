//! The task of one endpoint: one event after the other, each until it is taken.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Response};
use tokio_util::sync::CancellationToken;

use crate::outbound;

use super::counters::{Counters, Seldom};
use super::{Endpoint, queue};

/// The type of what is sent.
const ENVELOPE: HeaderValue =
    HeaderValue::from_static("application/vnd.docker.distribution.events.v2+json");

/// The pause before the failures are too many, at most: Distribution makes none.
const SHORT: Duration = Duration::from_millis(50);
/// The pause afterwards, at least and at most, whatever `backoff` says.
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_mins(1);
/// How often the pause doubles.
const DOUBLINGS: u32 = 4;

/// So much of an answer is read, so that the connection can be used again.
const DRAINED: usize = 64 * 1024;

pub(super) struct Worker {
    endpoint: Arc<Endpoint>,
    client: Client,
    headers: HeaderMap,
    queue: queue::Receiver,
    stopping: CancellationToken,
    told: Seldom,
    told_of_redirect: bool,
}

impl Worker {
    pub(super) fn new(
        endpoint: &Arc<Endpoint>,
        client: Client,
        mut headers: HeaderMap,
        queue: queue::Receiver,
        stopping: CancellationToken,
    ) -> Self {
        headers.insert(CONTENT_TYPE, ENVELOPE);
        Self {
            endpoint: Arc::clone(endpoint),
            client,
            headers,
            queue,
            stopping,
            told: Seldom::default(),
            told_of_redirect: false,
        }
    }

    /// Delivers until the queue is closed and empty, or until it is cut short.
    pub(super) async fn run(mut self, cut: CancellationToken) {
        tokio::select! {
            () = self.deliver_all() => {}
            () = cut.cancelled() => {}
        }
        let lost = self.queue.give_up();
        if lost > 0 {
            let endpoint = &self.endpoint.name;
            tracing::warn!(endpoint, lost, "events were not delivered before the stop");
        }
    }

    async fn deliver_all(&mut self) {
        let stopping = self.stopping.clone();
        loop {
            let next = tokio::select! {
                next = self.queue.next() => next,
                () = stopping.cancelled() => {
                    self.queue.close();
                    self.queue.next().await
                }
            };
            let Some(body) = next else {
                return;
            };
            self.deliver(&body).await;
            self.queue.done(&body);
        }
    }

    /// Sends one event until it is taken: it would be out of order later.
    async fn deliver(&mut self, body: &Bytes) {
        let mut failures = 0;
        while let Err(reason) = self.attempt(body).await {
            failures += 1;
            if self.told.is_due(Instant::now()) {
                tracing::warn!(
                    endpoint = self.endpoint.name,
                    address = outbound::shown(&self.endpoint.url),
                    failures,
                    reason,
                    "an event was not taken: it is sent again until it is"
                );
            }
            let pause = tokio::time::sleep(pause(&self.endpoint, failures));
            // One more attempt right away when larder stops; the endpoint may be back.
            let stopping = self.stopping.is_cancelled();
            tokio::select! {
                () = pause => {}
                () = self.stopping.cancelled(), if !stopping => {}
            }
        }
        if failures > 0 {
            tracing::info!(
                endpoint = self.endpoint.name,
                failures,
                "events are taken again"
            );
        }
    }

    async fn attempt(&mut self, body: &Bytes) -> Result<(), String> {
        let request = self
            .client
            .post(self.endpoint.url.clone())
            .headers(self.headers.clone())
            .timeout(self.endpoint.timeout)
            .body(body.clone());
        let counters = self.queue.counters();
        let response = request.send().await.map_err(|error| {
            Counters::count(&counters.errors);
            outbound::reason(error)
        })?;
        let status = response.status();
        counters.status(status.to_string());
        drain(response).await;
        if !(status.is_success() || status.is_redirection()) {
            Counters::count(&counters.failures);
            return Err(format!("it answers {status}"));
        }
        Counters::count(&counters.successes);
        if status.is_redirection() && !self.told_of_redirect {
            self.told_of_redirect = true;
            tracing::warn!(
                endpoint = self.endpoint.name,
                "the endpoint answers {status}: that counts as taken, and is not followed; put the address it redirects to into notifications.endpoints"
            );
        }
        Ok(())
    }
}

/// How long to wait after so many failures in a row.
fn pause(endpoint: &Endpoint, failures: u32) -> Duration {
    let backoff = endpoint.backoff.max(SHORTEST);
    match failures.checked_sub(endpoint.threshold) {
        None => backoff.min(SHORT),
        Some(more) => {
            let longer = backoff.saturating_mul(1 << more.min(DOUBLINGS));
            longer.min(backoff.max(LONGEST))
        }
    }
}

/// Reads what little there is of an answer. What goes wrong with it changes nothing any more.
async fn drain(mut response: Response) {
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read > DRAINED {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_modestly_after_the_threshold() {
        let mut endpoint = Endpoint::new("e", "http://localhost/".parse().unwrap());
        endpoint.threshold = 3;
        let pauses: Vec<_> = (1..=9).map(|it| pause(&endpoint, it).as_millis()).collect();
        let expected = [50, 50, 1000, 2000, 4000, 8000, 16_000, 16_000, 16_000];
        assert_eq!(pauses, expected);
        endpoint.backoff = Duration::from_mins(5);
        assert_eq!(
            pause(&endpoint, 20),
            Duration::from_mins(5),
            "as configured"
        );
        endpoint.backoff = Duration::ZERO;
        assert_eq!(pause(&endpoint, 2), SHORTEST, "never a busy loop");
        endpoint.backoff = Duration::MAX;
        assert_eq!(pause(&endpoint, u32::MAX), Duration::MAX);
    }
}
