//! Asking again: how often, after how long, and when to leave an upstream alone.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::StatusCode;
use http::header::RETRY_AFTER;
use tokio::time::sleep;

use super::error::UpstreamError;
use super::transport::{Answer, Fault, Request, Transport};

/// How often a request is sent while the upstream fails it.
pub(super) const TRIES: u32 = 3;
/// The longest pause between two tries.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// What is waited after a 429 that does not say how long.
const UNSAID: Duration = Duration::from_secs(5);
/// Docker Hub's window is six hours; a user who logs in or pays is not to wait for so long.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(10);
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
            Ok(answer) => match answer.status() {
                StatusCode::TOO_MANY_REQUESTS => {
                    let pause = pause_asked_for(answer.header(RETRY_AFTER), SystemTime::now());
                    answer.discard().await;
                    if has_waited || pause > SHORT {
                        gate.close(Instant::now(), pause);
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
fn jittered(pause: Duration) -> Duration {
    // Every `RandomState` has other keys; that is random enough for a pause.
    let random = RandomState::new().hash_one(()) % 1000;
    let random = u32::try_from(random).unwrap_or(0);
    pause / 2 + pause / 2 * random / 1000
}

/// RFC 9110 §10.2.3: seconds or a date.
fn pause_asked_for(retry_after: Option<&str>, now: SystemTime) -> Duration {
    let Some(text) = retry_after.map(str::trim) else {
        return UNSAID;
    };
    let pause = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => match httpdate::parse_http_date(text) {
            Ok(date) => date.duration_since(now).unwrap_or(Duration::ZERO),
            Err(_) => UNSAID,
        },
    };
    pause.min(MAX_RETRY_AFTER)
}

/// Closed while an upstream wants to be left alone: no request goes out, so that a rate limit is
/// not answered with a storm.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<Option<Instant>>);

impl Gate {
    fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, now: Instant) -> Result<(), UpstreamError> {
        match self
            .until()
            .map(|until| until.saturating_duration_since(now))
        {
            Some(left) if left > Duration::ZERO => {
                Err(UpstreamError::RateLimited { retry_after: left })
            }
            _ => Ok(()),
        }
    }

    fn close(&self, now: Instant, pause: Duration) {
        let until = &mut *self.until();
        *until = (*until).max(now.checked_add(pause));
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
            (None, 5),
            (Some("0"), 0),
            (Some(" 7 "), 7),
            (Some("21600"), 600),
            (Some("99999999999999999999999"), 5),
            (Some("-1"), 5),
            (Some("soon"), 5),
            (Some(date(30).as_str()), 30),
            (Some(date(86_400).as_str()), 600),
            (Some(past.as_str()), 0),
        ] {
            assert_eq!(
                pause_asked_for(header, now),
                Duration::from_secs(seconds),
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
    }
}
