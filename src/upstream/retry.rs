//! Asking again: how often, after how long, and when to leave an upstream alone.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderName, StatusCode};
use tokio::time::sleep;

use super::budget::{Budget, Ledger};
use super::error::UpstreamError;
use super::transport::{Answer, Fault, Request, Transport};

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const SOURCE: HeaderName = HeaderName::from_static("docker-ratelimit-source");

/// How often a request is sent while the upstream fails it.
pub(super) const TRIES: u32 = 3;
/// The longest pause between two tries.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// What is waited after a 429 that does not say how long.
const UNSAID: Duration = Duration::from_secs(5);
/// What that doubles up to, if the next answer is another such 429.
const MAX_UNSAID: Duration = Duration::from_mins(5);
/// Docker Hub's window is six hours. Who logs in or pays meanwhile reloads, and need not wait.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);
/// So short a wait is not worth an error.
const SHORT: Duration = Duration::from_secs(2);

/// Sends a request until there is an answer worth looking at: neither 429 nor 5xx, and from a
/// connection that held. `tries` counts failures only.
pub(super) async fn send(
    transport: &Transport,
    request: &Request<'_>,
    gate: &Gate,
    tries: u32,
) -> Result<Answer, UpstreamError> {
    gate.check(Instant::now())?;
    let (mut failures, mut has_waited, mut has_returned) = (0, false, false);
    loop {
        let failure = match transport.send(request).await {
            Err(Fault::Final(error)) => return Err(error),
            Err(Fault::Broken(reason)) => UpstreamError::Unreachable { reason },
            Ok(answer) => match gate.pass(&transport.name, &answer) {
                StatusCode::TOO_MANY_REQUESTS => {
                    let pause = pause_asked_for(answer.header(RETRY_AFTER), SystemTime::now());
                    let pause = pause.unwrap_or_else(|| gate.unsaid());
                    answer.discard().await;
                    if has_waited || pause > SHORT {
                        gate.close(Instant::now(), pause);
                        tracing::warn!(
                            "upstream {} limits our requests: it is left alone for {}",
                            transport.name,
                            humantime::format_duration(Duration::from_secs(pause.as_secs().max(1)))
                        );
                        return Err(UpstreamError::RateLimited { retry_after: pause });
                    }
                    has_waited = true;
                    sleep(pause + jittered(transport.timeouts.backoff)).await;
                    continue;
                }
                // A presigned address that has run out, or that another clock thinks has: home
                // signs a new one. For a HEAD it is the rule: S3 signs for one method.
                status
                    if is_refusal(status)
                        && !answer.at_home
                        && request.method == http::Method::GET =>
                {
                    if has_returned {
                        return Ok(answer);
                    }
                    has_returned = true;
                    answer.discard().await;
                    continue;
                }
                status if is_transient(status) => {
                    answer.discard().await;
                    UpstreamError::Failed {
                        status: status.as_u16(),
                    }
                }
                _ => return Ok(answer),
            },
        };
        failures += 1;
        if failures >= tries {
            return Err(failure);
        }
        tracing::info!(host = request.url.host_str(), "asking again: {failure}");
        sleep(backoff(transport.timeouts.backoff, failures - 1)).await;
    }
}

/// 401 or 403.
pub(super) fn is_refusal(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// The pause before try number `n`, counted from 0: doubling up to five seconds, with jitter.
pub(super) fn backoff(first: Duration, n: u32) -> Duration {
    let factor = 2_u32.checked_pow(n).unwrap_or(u32::MAX);
    jittered(first.saturating_mul(factor).min(MAX_BACKOFF))
}

/// Between half of `pause` and all of it, so that those who failed together do not come back
/// together.
pub(super) fn jittered(pause: Duration) -> Duration {
    // Every `RandomState` has other keys; that is random enough for a pause.
    let random = RandomState::new().hash_one(()) % 1000;
    let random = u32::try_from(random).unwrap_or(0);
    pause / 2 + pause / 2 * random / 1000
}

/// RFC 9110 §10.2.3: seconds or a date.
fn pause_asked_for(retry_after: Option<&str>, now: SystemTime) -> Option<Duration> {
    let text = retry_after?.trim();
    let pause = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        date.duration_since(now).unwrap_or(Duration::ZERO)
    };
    Some(pause.min(MAX_RETRY_AFTER))
}

/// The same of each kind of question that is limited by itself: what a 429 says to one of them
/// holds for no other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByKind<T> {
    /// Of manifests and tags, which are what Docker Hub's pull limit is about.
    pub manifests: T,
    /// Of blobs.
    pub blobs: T,
    /// Of tokens, at the token service.
    pub tokens: T,
}

impl<T> ByKind<T> {
    /// What becomes of each.
    pub fn map<U>(self, change: impl Fn(T) -> U) -> ByKind<U> {
        ByKind {
            manifests: change(self.manifests),
            blobs: change(self.blobs),
            tokens: change(self.tokens),
        }
    }

    /// The greatest of them.
    pub fn greatest(self) -> T
    where
        T: Ord,
    {
        self.manifests.max(self.blobs).max(self.tokens)
    }
}

/// Closed while an upstream wants to be left alone: no request goes out, so that a rate limit is
/// not answered with a storm.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<Closed>,
    /// What is left of the pulls that are allowed here.
    pub(super) ledger: Ledger,
}

#[derive(Debug, Default)]
struct Closed {
    until: Option<Instant>,
    /// The same for people.
    until_time: Option<SystemTime>,
    /// How many 429 in a row did not say how long.
    unsaid: u32,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, Closed> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long it stays closed.
    fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.state().until?.saturating_duration_since(now);
        Some(left).filter(|left| *left > Duration::ZERO)
    }

    pub(super) fn check(&self, now: Instant) -> Result<(), UpstreamError> {
        match self.left(now) {
            Some(retry_after) => Err(UpstreamError::RateLimited { retry_after }),
            None => Ok(()),
        }
    }

    /// Stays closed for so long, and no longer than anybody is left alone.
    pub(super) fn close(&self, now: Instant, pause: Duration) {
        let pause = pause.min(MAX_RETRY_AFTER);
        let state = &mut *self.state();
        let until = now.checked_add(pause);
        if until > state.until {
            state.until = until;
            state.until_time = SystemTime::now().checked_add(pause);
        }
    }

    /// Until when it stays closed.
    pub(super) fn closed_until(&self) -> Option<SystemTime> {
        self.left(Instant::now())?;
        self.state().until_time
    }

    /// Lets the next request out, whatever the upstream said.
    pub(super) fn open(&self) {
        *self.state() = Closed::default();
    }

    /// How long to wait after one more 429 that does not say it.
    fn unsaid(&self) -> Duration {
        let unsaid = &mut self.state().unsaid;
        let factor = 2_u32.checked_pow(*unsaid).unwrap_or(u32::MAX);
        *unsaid = unsaid.saturating_add(1);
        UNSAID.saturating_mul(factor).min(MAX_UNSAID)
    }

    /// Takes down what an answer tells of limits; gives its status.
    fn pass(&self, upstream: &str, answer: &Answer) -> StatusCode {
        let status = answer.status();
        if status.is_success() {
            self.state().unsaid = 0;
        }
        // Elsewhere somebody else's requests are counted.
        let header = |name| answer.header(name).filter(|_| answer.at_home);
        let (limit, remaining) = (header(LIMIT), header(REMAINING));
        let budget = Budget::parse(limit, remaining, header(SOURCE), SystemTime::now());
        if let Some(budget) = budget {
            self.ledger.write(upstream, &budget);
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_is_the_one_asked_for_within_reason() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let date = |offset: u64| httpdate::fmt_http_date(now + Duration::from_secs(offset));
        let past = httpdate::fmt_http_date(now - Duration::from_secs(9));
        for (header, seconds) in [
            (None, None),
            (Some("0"), Some(0)),
            (Some(" 7 "), Some(7)),
            (Some("21600"), Some(21_600)),
            (Some("99999999"), Some(86_400)),
            (Some("99999999999999999999999"), None),
            (Some("-1"), None),
            (Some("soon"), None),
            (Some(date(30).as_str()), Some(30)),
            (Some(date(900_000).as_str()), Some(86_400)),
            (Some(past.as_str()), Some(0)),
        ] {
            assert_eq!(
                pause_asked_for(header, now),
                seconds.map(Duration::from_secs),
                "{header:?}"
            );
        }
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_differ() {
        let first = Duration::from_millis(200);
        for (n, full) in [(0, 200), (1, 400), (4, 3200), (5, 5000), (400, 5000)] {
            let full = Duration::from_millis(full);
            for _ in 0..20 {
                let pause = backoff(first, n);
                assert!(full / 2 <= pause && pause <= full, "{n}: {pause:?}");
            }
        }
        let pauses: Vec<_> = (0..20).map(|_| backoff(first, 3)).collect();
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
    }

    #[test]
    fn a_gate_stays_closed_for_the_longest_pause() {
        let (gate, now) = (Gate::default(), Instant::now());
        assert_eq!(gate.check(now), Ok(()));
        gate.close(now, Duration::from_secs(9));
        gate.close(now, Duration::from_secs(3));
        let left = |seconds| {
            Err(UpstreamError::RateLimited {
                retry_after: Duration::from_secs(seconds),
            })
        };
        assert_eq!(gate.check(now), left(9));
        assert_eq!(gate.check(now + Duration::from_secs(5)), left(4));
        assert_eq!(gate.check(now + Duration::from_secs(9)), Ok(()));
        gate.open();
        assert_eq!(gate.check(now), Ok(()), "whoever opened it knows better");
    }

    #[test]
    fn who_does_not_say_how_long_is_asked_ever_more_rarely() {
        let gate = Gate::default();
        let pauses: Vec<_> = (0..8).map(|_| gate.unsaid().as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300]);
    }
}
