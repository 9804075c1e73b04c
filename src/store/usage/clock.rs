//! The age clock: for how long something has been unused, whatever happens to the time of day.
//!
//! It goes with the wall clock, but a jump forward counts as a day at most, and a jump backward as
//! nothing: a dead battery or a typing error must neither make everything look a year old nor
//! everything look new for a year. Its values are microseconds, and look like times since 1970
//! because they begin as such.
//!
//! Across restarts it is continued from a hint file: what the wall clock said last, and what this
//! one did. Where the file is missing, the newest thing in the tree says what time it was.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point of the age clock, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Age(pub u64);

impl Age {
    /// As much earlier.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }

    /// How long ago `earlier` was.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The same point read as a wall clock's.
    #[must_use]
    pub fn of(wall: SystemTime) -> Self {
        Self(micros(wall.duration_since(UNIX_EPOCH).unwrap_or_default()))
    }
}

/// The most that a single jump counts.
const JUMP: u64 = 24 * 3600 * 1_000_000;

/// What is no jump, but two clocks read one after the other.
const SLACK: u64 = 1_000_000;

/// What is kept for the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Saved {
    wall: u64,
    age: u64,
}

impl Saved {
    /// Reads what [`Saved::text`] wrote.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (wall, age) = text.trim_end().split_once(' ')?;
        let (wall, age) = (wall.parse().ok()?, age.parse().ok()?);
        // Beyond the year 36 000 no clock has ever been: what was read is something else.
        let is_time = |micros: u64| micros < 1 << 60;
        (is_time(wall) && is_time(age)).then_some(Self { wall, age })
    }

    pub(super) fn text(self) -> String {
        format!("{} {}\n", self.wall, self.age)
    }
}

/// The clock, as far as it was looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    age: u64,
    wall: u64,
    at: Instant,
    /// A wall clock's time and the age it stood for, by which the times of files are read.
    anchor: Saved,
    is_settled: bool,
}

impl Clock {
    pub(super) fn start(saved: Option<Saved>, wall: SystemTime, at: Instant) -> Self {
        let wall = Age::of(wall).0;
        let anchor = saved.unwrap_or(Saved { wall, age: wall });
        Self {
            age: anchor.age + wall.saturating_sub(anchor.wall).min(JUMP),
            wall,
            at,
            anchor,
            is_settled: saved.is_some(),
        }
    }

    /// Whether it is known to go on where it stood. If not, what it says is not to be written down
    /// before [`Clock::settle`].
    pub(super) fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Takes the newest thing in the tree for the last that was seen, if nothing better is known.
    pub(super) fn settle(&mut self, newest: Option<Age>) {
        if self.is_settled {
            return;
        }
        self.is_settled = true;
        if let Some(Age(newest)) = newest {
            self.age = newest + self.age.saturating_sub(newest).min(JUMP);
        }
        self.anchor = Saved {
            wall: self.age,
            age: self.age,
        };
    }

    /// Goes on to now.
    pub(super) fn advance(&mut self, wall: SystemTime, at: Instant) {
        let wall = Age::of(wall).0;
        let passed = micros(at.saturating_duration_since(self.at));
        let jump = wall.saturating_sub(self.wall).saturating_sub(passed);
        self.age += passed + if jump > SLACK { jump.min(JUMP) } else { 0 };
        (self.wall, self.at) = (wall, at.max(self.at));
    }

    /// What it said, or will say, at an instant near the last look.
    pub(super) fn age_at(&self, at: Instant) -> Age {
        let later = micros(at.saturating_duration_since(self.at));
        let earlier = micros(self.at.saturating_duration_since(at));
        Age((self.age + later).saturating_sub(earlier))
    }

    /// What it said when a file was last touched: in doubt the younger.
    pub(super) fn age_of(&self, modified: SystemTime) -> Age {
        let wall = Age::of(modified).0;
        let Saved {
            wall: then,
            age: was,
        } = self.anchor;
        let by_anchor = (was + wall.saturating_sub(then)).saturating_sub(then.saturating_sub(wall));
        Age(by_anchor.max(wall).min(self.age))
    }

    pub(super) fn saved(&self) -> Saved {
        Saved {
            wall: self.wall,
            age: self.age,
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);
    const YEAR: Duration = Duration::from_hours(365 * 24);
    const TICK: Duration = Duration::from_secs(1);

    fn noon() -> SystemTime {
        UNIX_EPOCH + YEAR * 55
    }

    /// A clock after one second in which the wall clock went from noon to `wall`.
    fn after(wall: SystemTime) -> Duration {
        let at = Instant::now();
        let mut clock = Clock::start(None, noon(), at);
        clock.settle(None);
        clock.advance(wall, at + TICK);
        clock.age_at(at + TICK).since(Age::of(noon()))
    }

    #[test]
    fn a_jump_counts_a_day_forward_and_nothing_backward() {
        assert_eq!(after(noon() + TICK), TICK);
        assert_eq!(after(noon() + TICK + YEAR), TICK + DAY);
        assert_eq!(after(noon() - YEAR), TICK);
        // A night asleep is a night.
        let night = Duration::from_hours(8);
        assert_eq!(after(noon() + TICK + night), TICK + night);
        // That one clock was read a moment after the other is no jump.
        assert_eq!(after(noon() + TICK + TICK / 10), TICK);
    }

    #[test]
    fn time_goes_on_after_a_jump_as_before() {
        let at = Instant::now();
        for wrong in [noon() + YEAR, noon() - YEAR] {
            let mut clock = Clock::start(None, noon(), at);
            clock.settle(None);
            clock.advance(wrong, at);
            let from = clock.age_at(at);
            for second in 1..=10 {
                clock.advance(wrong + TICK * second, at + TICK * second);
            }
            assert_eq!(clock.age_at(at + TICK * 10).since(from), TICK * 10);
        }
    }

    #[test]
    fn a_restart_counts_like_a_jump() {
        let (at, saved) = (Instant::now(), Age::of(noon()).0);
        let saved = Saved {
            wall: saved,
            age: saved,
        };
        assert_eq!(Saved::read(&saved.text()), Some(saved));
        for (wall, counted) in [
            (noon() + DAY / 2, DAY / 2),
            (noon() + YEAR, DAY),
            (noon() - YEAR, Duration::ZERO),
        ] {
            let clock = Clock::start(Some(saved), wall, at);
            assert_eq!(clock.age_at(at).since(Age::of(noon())), counted);
            assert!(clock.is_settled());
        }
        for wrong in ["", "1", "1 2 3", "x y", "-1 2", "1 18446744073709551615"] {
            assert_eq!(Saved::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn without_its_file_it_goes_on_from_the_newest_thing_in_the_tree() {
        let at = Instant::now();
        for (wall, counted) in [
            (noon() + DAY / 2, DAY / 2),
            (noon() + YEAR, DAY),
            (noon() - YEAR, Duration::ZERO),
        ] {
            let mut clock = Clock::start(None, wall, at);
            assert!(!clock.is_settled());
            clock.settle(Some(Age::of(noon())));
            assert_eq!(clock.age_at(at).since(Age::of(noon())), counted);
            // What was touched last is as old as that.
            let last = clock.age_of(noon());
            assert_eq!(clock.age_at(at).since(last), counted);
        }
    }

    #[test]
    fn a_file_is_never_older_than_either_clock_says() {
        let at = Instant::now();
        let saved = |ahead: Duration| {
            Some(Saved {
                wall: Age::of(noon() + ahead).0,
                age: Age::of(noon()).0,
            })
        };
        // The wall clock had been a year ahead, and the file is from before.
        let clock = Clock::start(saved(YEAR), noon(), at);
        assert_eq!(clock.age_of(noon() - DAY), Age::of(noon() - DAY));
        // From the year in which it was.
        assert_eq!(clock.age_of(noon() + YEAR - DAY), Age::of(noon()));
        // Nothing is from the future.
        assert_eq!(clock.age_of(noon() + YEAR * 9), Age::of(noon()));
    }
}
