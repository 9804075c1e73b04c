//! How fast something went, for the log.

use std::time::{Duration, Instant};

/// How long something took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// In seconds, to the microsecond.
    pub(super) seconds: f64,
}

impl Pace {
    pub(super) fn since(started: Instant) -> Self {
        Self::over(started.elapsed())
    }

    pub(super) fn over(took: Duration) -> Self {
        let seconds = (took.as_secs_f64() * 1e6).round() / 1e6;
        Self { seconds }
    }

    /// Bytes a second.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a speed is no account"
    )]
    pub(super) fn of(self, bytes: u64) -> u64 {
        (bytes as f64 / self.seconds.max(1e-6)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_bytes_a_second_however_short_that_was() {
        assert_eq!(Pace::over(Duration::from_millis(250)).of(1000), 4000);
        assert_eq!(Pace::over(Duration::from_secs(3)).of(10), 3);
        assert_eq!(Pace::over(Duration::ZERO).of(7), 7_000_000);
        let seconds = Pace::over(Duration::from_nanos(1_234_567)).seconds;
        assert_eq!(seconds.to_string(), "0.001235");
    }
}
