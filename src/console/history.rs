//! What was served and fetched in each of the last minutes. In memory: a restart begins anew.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::Console;

/// How long a step is.
const STEP: Duration = Duration::from_mins(1);

/// How many steps are kept: a day.
const POINTS: usize = 24 * 60;

/// One minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    /// When it ended.
    pub(super) time: SystemTime,
    /// Bytes sent to clients in it.
    pub(super) served: u64,
    /// Bytes fetched from upstreams in it.
    pub(super) fetched: u64,
}

/// The last minutes.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    points: VecDeque<Point>,
    /// The sums at the end of the last.
    served: u64,
    fetched: u64,
}

impl History {
    /// A minute is over, and these are the sums since the start.
    fn add(&self, time: SystemTime, served: u64, fetched: u64) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let point = Point {
            time,
            served: served.saturating_sub(kept.served),
            fetched: fetched.saturating_sub(kept.fetched),
        };
        (kept.served, kept.fetched) = (served, fetched);
        if kept.points.len() == POINTS {
            kept.points.pop_front();
        }
        kept.points.push_back(point);
    }

    /// All that are kept, the oldest first, and the minute that is not over yet.
    pub(super) fn points(&self, time: SystemTime, served: u64, fetched: u64) -> Vec<Point> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Point {
            time,
            served: served.saturating_sub(kept.served),
            fetched: fetched.saturating_sub(kept.fetched),
        };
        kept.points.iter().copied().chain([now]).collect()
    }
}

/// The same in longer steps, each ending where its last minute does.
pub(super) fn sum(points: &[Point], step: Duration) -> Vec<Point> {
    let mut sums: Vec<Point> = Vec::new();
    let mut last = None;
    for point in points {
        let since = point.time.duration_since(SystemTime::UNIX_EPOCH);
        let number = since.unwrap_or_default().as_secs() / step.as_secs().max(1);
        match sums.last_mut().filter(|_| last == Some(number)) {
            Some(sum) => {
                sum.time = point.time;
                sum.served += point.served;
                sum.fetched += point.fetched;
            }
            None => sums.push(*point),
        }
        last = Some(number);
    }
    sums
}

/// How many minutes may be summed: what an hour can be divided into, and a column of a chart be.
const SPANS: [u64; 7] = [1, 2, 5, 10, 15, 30, 60];

/// The shortest step in which so many minutes make `most` points at most; an hour where none does.
pub(super) fn step(minutes: usize, most: Option<u64>) -> Duration {
    // One more than would fill them: they begin and end in the middle of one.
    let fits = |span: &u64| most.is_none_or(|most| (minutes as u64).div_ceil(*span) < most);
    let span = SPANS.into_iter().find(fits).unwrap_or(60);
    STEP * u32::try_from(span).unwrap_or(60)
}

/// Adds a point each minute.
pub(super) async fn keep(console: &Console) {
    let mut minutes = interval_at(Instant::now() + STEP, STEP);
    minutes.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        minutes.tick().await;
        let totals = console.totals();
        let history = &console.0.history;
        history.add(SystemTime::now(), totals.served_bytes, totals.fetched_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_kept_and_each_minute_counts_what_came_in_it() {
        let history = History::default();
        let start = SystemTime::UNIX_EPOCH;
        for minute in 1..=1500_u32 {
            let sum = u64::from(minute) * 10;
            history.add(start + STEP * minute, sum, sum / 2);
        }
        let points = history.points(start, 15_007, 7_500);
        assert_eq!(points.len(), POINTS + 1);
        assert_eq!(points[0].time, start + STEP * 61);
        assert!(
            points[..POINTS]
                .iter()
                .all(|it| (it.served, it.fetched) == (10, 5))
        );
        assert_eq!((points[POINTS].served, points[POINTS].fetched), (7, 0));
        let sums = sum(&points[..POINTS], Duration::from_mins(5));
        let total = |points: &[Point]| points.iter().map(|it| it.served).sum::<u64>();
        assert_eq!(total(&sums), total(&points[..POINTS]));
        assert!((288..=289).contains(&sums.len()), "{}", sums.len());
        assert_eq!(sum(&points[..9], STEP), points[..9]);
    }

    #[test]
    fn there_are_no_more_points_than_somebody_wants() {
        let minutes = |count, most| step(count, most).as_secs() / 60;
        assert_eq!(minutes(POINTS + 1, None), 1);
        for (count, most, expected) in [
            (1, 100, 1),
            (99, 100, 1),
            (100, 100, 2),
            (POINTS + 1, 100, 15),
            (POINTS + 1, 10, 60),
            (POINTS + 1, 0, 60),
        ] {
            assert_eq!(minutes(count, Some(most)), expected, "{count} in {most}");
        }
        let history = History::default();
        for minute in 1..=1500_u32 {
            // They begin anywhere in an hour.
            history.add(SystemTime::UNIX_EPOCH + STEP * (minute + 7), 0, 0);
            let points = history.points(SystemTime::UNIX_EPOCH + STEP * (minute + 8), 0, 0);
            let sums = sum(&points, step(points.len(), Some(100)));
            assert!(sums.len() <= 100, "{minute}: {}", sums.len());
        }
    }
}
