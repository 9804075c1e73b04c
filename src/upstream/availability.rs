//! Whether an upstream is there, as far as its answers tell. One that is not is asked rarely.
//!
//! After a question that nothing came of, the upstream is *down*: for a window nobody asks it, and
//! whoever would is told why at once. After the window one question at a time goes out, and any
//! answer makes it up again. Two degrees of being down matter to whoever asks:
//!
//! - *certain*: not even a connection, or no sign of life on it. Nobody is let through.
//! - in *doubt*: something came, but no answer, or somebody did not want to wait any longer.
//!   Whoever has a copy to serve need not ask; whoever has none may, since he loses nothing.
//!
//! A question that failed although another one was answered meanwhile says nothing about the
//! upstream: that question alone is what it cannot answer.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::error::UpstreamError;
use super::retry::jittered;

/// How long nobody asks, at first.
const FIRST_WINDOW: Duration = Duration::from_secs(10);
/// What that doubles up to.
const LONGEST_WINDOW: Duration = Duration::from_mins(1);
/// So many questions in a row that end in a 5xx, each after all its tries, are no accident.
const STRIKES: u32 = 3;

/// What can be expected of an upstream right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nothing speaks against asking.
    Here,
    /// It was asked in vain and a new try is due: worth one in the background.
    Due(UpstreamError),
    /// It is not to be asked now, for this reason.
    Away(UpstreamError),
}

/// Since when an upstream is up or down, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// When that began; `None` before anything was asked.
    pub since: Option<SystemTime>,
    /// Why it is down; `None` while it is up.
    pub down: Option<UpstreamError>,
}

/// How a question ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Whatever the answer was, there was one.
    Answered,
    /// Nothing came of it.
    Silence(UpstreamError),
    /// The upstream said that it cannot: 5xx.
    Trouble(UpstreamError),
    /// It was not really asked.
    Unasked,
}

/// What to do with a question.
#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Go,
    /// It goes, and decides for all who come meanwhile.
    Probe,
    /// One that decides is under way.
    Wait,
    Refused(UpstreamError),
}

/// What changed, for the log.
#[derive(Debug, PartialEq, Eq)]
enum News {
    None,
    Down,
    /// After having been down for this long.
    Up(Duration),
}

/// The state, and how it changes. Pure: time and chance are given to it.
#[derive(Debug, Default)]
struct Condition {
    down: Option<Down>,
    up_since: Option<SystemTime>,
    /// The last sign of life, of whatever kind.
    heard: Option<Instant>,
    answered: Option<Instant>,
    strikes: u32,
}

#[derive(Debug)]
struct Down {
    since: (Instant, SystemTime),
    reason: UpstreamError,
    certain: bool,
    /// How many windows have passed.
    windows: u32,
    until: Instant,
    probing: bool,
}

/// A moment, on both clocks.
#[derive(Clone, Copy, Debug)]
struct Now {
    instant: Instant,
    system: SystemTime,
}

impl Now {
    fn read() -> Self {
        Self {
            instant: Instant::now(),
            system: SystemTime::now(),
        }
    }
}

impl Condition {
    fn admit(&mut self, now: Instant, insistent: bool) -> Admission {
        let Some(down) = &mut self.down else {
            return Admission::Go;
        };
        if insistent {
            Admission::Go
        } else if down.probing {
            Admission::Wait
        } else if now >= down.until {
            down.probing = true;
            Admission::Probe
        } else if down.certain {
            Admission::Refused(down.reason.clone())
        } else {
            Admission::Go
        }
    }

    fn presence(&self, now: Instant) -> Presence {
        match &self.down {
            None => Presence::Here,
            Some(down) if down.probing || now < down.until => Presence::Away(down.reason.clone()),
            Some(down) => Presence::Due(down.reason.clone()),
        }
    }

    /// Takes note of how a question ended that was sent at `asked`. `jitter` shortens a window.
    fn ended(
        &mut self,
        now: Now,
        asked: Instant,
        is_probe: bool,
        ending: Ending,
        jitter: impl Fn(Duration) -> Duration,
    ) -> News {
        let was_heard = self.heard.is_some_and(|heard| heard >= asked);
        let (reason, certain) = match ending {
            Ending::Answered if was_heard => return self.answered(now),
            Ending::Answered | Ending::Unasked => {
                self.put_off(now.instant, is_probe, jitter);
                return News::None;
            }
            Ending::Silence(reason) => (reason, !was_heard),
            Ending::Trouble(reason) => {
                self.strikes = self.strikes.saturating_add(1);
                if self.down.is_none() && self.strikes < STRIKES {
                    return News::None;
                }
                (reason, false)
            }
        };
        self.failed(now, asked, is_probe, (reason, certain), jitter)
    }

    fn answered(&mut self, now: Now) -> News {
        self.strikes = 0;
        self.answered = Some(now.instant);
        let down = self.down.take();
        if down.is_some() || self.up_since.is_none() {
            self.up_since = Some(now.system);
        }
        down.map_or(News::None, |down| {
            News::Up(now.instant.saturating_duration_since(down.since.0))
        })
    }

    fn failed(
        &mut self,
        now: Now,
        asked: Instant,
        is_probe: bool,
        (reason, certain): (UpstreamError, bool),
        jitter: impl Fn(Duration) -> Duration,
    ) -> News {
        if self.answered.is_some_and(|answered| answered >= asked) {
            return News::None;
        }
        let Some(down) = &mut self.down else {
            self.down = Some(Down {
                since: (now.instant, now.system),
                reason,
                certain,
                windows: 0,
                until: now.instant + jitter(window(0)),
                probing: false,
            });
            return News::Down;
        };
        if is_probe {
            (down.reason, down.certain) = (reason, certain);
            down.windows = down.windows.saturating_add(1);
            down.until = now.instant + jitter(window(down.windows));
            down.probing = false;
        } else if certain && !down.certain {
            // What was a suspicion has come true.
            (down.reason, down.certain) = (reason, true);
            down.until = now.instant + jitter(window(down.windows));
        }
        News::None
    }

    /// After a probe that told nothing.
    fn put_off(&mut self, now: Instant, is_probe: bool, jitter: impl Fn(Duration) -> Duration) {
        if let (Some(down), true) = (&mut self.down, is_probe) {
            down.probing = false;
            down.until = now + jitter(FIRST_WINDOW);
        }
    }

    /// After a probe that nobody waited for to its end: the next one may try.
    fn abandoned(&mut self) {
        if let Some(down) = &mut self.down {
            down.probing = false;
        }
    }

    fn standing(&self) -> Standing {
        match &self.down {
            Some(down) => Standing {
                since: Some(down.since.1),
                down: Some(down.reason.clone()),
            },
            None => Standing {
                since: self.up_since,
                down: None,
            },
        }
    }
}

fn window(passed: u32) -> Duration {
    let factor = 2_u32.checked_pow(passed).unwrap_or(u32::MAX);
    FIRST_WINDOW.saturating_mul(factor).min(LONGEST_WINDOW)
}

/// One upstream's condition, and those who wait for a probe of it.
#[derive(Debug)]
pub(super) struct Availability {
    /// For the log.
    name: String,
    condition: Mutex<Condition>,
    changed: watch::Sender<()>,
}

/// Leave to send one question.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    availability: &'a Availability,
    asked: Instant,
    is_probe: bool,
    has_ended: bool,
}

impl Availability {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            condition: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }

    fn condition(&self) -> MutexGuard<'_, Condition> {
        self.condition
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for leave to ask, and waits where somebody's question is about to decide that. Who is
    /// `insistent` goes on with what he began, whatever the upstream's state.
    pub(super) async fn turn(&self, insistent: bool) -> Result<Turn<'_>, UpstreamError> {
        loop {
            let mut changed = self.changed.subscribe();
            let now = Instant::now();
            let admission = self.condition().admit(now, insistent);
            let is_probe = match admission {
                Admission::Go => false,
                Admission::Probe => true,
                Admission::Refused(reason) => return Err(reason),
                Admission::Wait => {
                    // The sender is ours: it cannot be gone.
                    drop(changed.changed().await);
                    continue;
                }
            };
            return Ok(Turn {
                availability: self,
                asked: now,
                is_probe,
                has_ended: false,
            });
        }
    }

    pub(super) fn presence(&self) -> Presence {
        self.condition().presence(Instant::now())
    }

    pub(super) fn standing(&self) -> Standing {
        self.condition().standing()
    }

    /// A sign of life, which is no answer yet.
    pub(super) fn heard(&self) {
        self.condition().heard = Some(Instant::now());
    }

    /// Somebody has waited since `asked` and does so no longer.
    pub(super) fn waited_in_vain(&self, asked: Instant) {
        let reason = UpstreamError::Timeout {
            what: "no answer while a client waited",
        };
        self.take_note(asked, false, |condition, now| {
            condition.failed(now, asked, false, (reason, false), jittered)
        });
    }

    /// Forgets that it was down: whoever says so may have mended it.
    pub(super) fn forget(&self) {
        let before = std::mem::take(&mut *self.condition());
        self.changed.send_replace(());
        if before.down.is_some() {
            tracing::info!("upstream {} was down, and is asked again", self.name);
        }
    }

    fn take_note(
        &self,
        asked: Instant,
        is_probe: bool,
        change: impl FnOnce(&mut Condition, Now) -> News,
    ) {
        let (news, standing) = {
            let condition = &mut *self.condition();
            (change(condition, Now::read()), condition.standing())
        };
        if is_probe || news != News::None {
            self.changed.send_replace(());
        }
        let name = &self.name;
        match (news, standing.down) {
            (News::Down, Some(reason)) => {
                let waited = asked.elapsed();
                tracing::warn!(
                    ?waited,
                    "upstream {name} is down: {reason}; what is cached is served without asking it, and it is tried again from time to time"
                );
            }
            (News::Up(after), _) => {
                let after = Duration::from_secs(after.as_secs().max(1));
                let after = humantime::format_duration(after);
                tracing::info!("upstream {name} answers again, after {after}");
            }
            _ => {}
        }
    }
}

impl Turn<'_> {
    /// Says how the question ended.
    pub(super) fn ended(mut self, ending: Ending) {
        self.has_ended = true;
        let (asked, is_probe) = (self.asked, self.is_probe);
        self.availability
            .take_note(asked, is_probe, |condition, now| {
                condition.ended(now, asked, is_probe, ending, jittered)
            });
    }

    /// Whether anything at all came from the upstream since this was asked.
    pub(super) fn was_heard(&self) -> bool {
        let heard = self.availability.condition().heard;
        heard.is_some_and(|heard| heard >= self.asked)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.is_probe && !self.has_ended {
            self.availability.condition().abandoned();
            self.availability.changed.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that stands still, a condition, and windows without jitter.
    struct Case {
        condition: Condition,
        start: Instant,
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn silence() -> Ending {
        Ending::Silence(reason())
    }

    fn reason() -> UpstreamError {
        UpstreamError::unreachable("connection refused")
    }

    impl Case {
        fn new() -> Self {
            Self {
                condition: Condition::default(),
                start: Instant::now(),
            }
        }

        fn at(&self, offset: u64) -> Instant {
            self.start + seconds(offset)
        }

        fn now(&self, offset: u64) -> Now {
            Now {
                instant: self.at(offset),
                system: SystemTime::UNIX_EPOCH + seconds(offset),
            }
        }

        fn ended(&mut self, asked: u64, now: u64, is_probe: bool, ending: Ending) -> News {
            let (asked, now) = (self.at(asked), self.now(now));
            let same = |window| window;
            self.condition.ended(now, asked, is_probe, ending, same)
        }

        fn heard(&mut self, offset: u64) {
            self.condition.heard = Some(self.at(offset));
        }

        fn admit(&mut self, offset: u64) -> Admission {
            let now = self.at(offset);
            self.condition.admit(now, false)
        }

        fn presence(&self, offset: u64) -> Presence {
            self.condition.presence(self.at(offset))
        }
    }

    #[test]
    fn after_a_failure_nobody_asks_for_a_window_and_then_one_does() {
        let mut case = Case::new();
        assert_eq!(case.admit(0), Admission::Go);
        assert_eq!(case.ended(0, 0, false, silence()), News::Down);
        assert_eq!(case.admit(9), Admission::Refused(reason()));
        assert_eq!(case.presence(9), Presence::Away(reason()));
        assert_eq!(case.presence(10), Presence::Due(reason()));
        assert_eq!(case.admit(10), Admission::Probe);
        assert_eq!(case.admit(10), Admission::Wait);
        assert_eq!(case.presence(10), Presence::Away(reason()));
        let now = case.at(10);
        assert_eq!(case.condition.admit(now, true), Admission::Go, "a resume");
        case.heard(11);
        assert_eq!(
            case.ended(10, 11, true, Ending::Answered),
            News::Up(seconds(11))
        );
        assert_eq!(
            (case.admit(11), case.presence(11)),
            (Admission::Go, Presence::Here)
        );
    }

    #[test]
    fn windows_double_up_to_a_minute_and_only_by_probes() {
        let mut case = Case::new();
        case.ended(0, 0, false, silence());
        let mut now = 0;
        for window in [10, 20, 40, 60, 60] {
            for late in 0..3 {
                case.ended(0, now + late, false, silence());
            }
            assert_eq!(case.admit(now + window - 1), Admission::Refused(reason()));
            now += window;
            assert_eq!(case.admit(now), Admission::Probe, "{window}");
            assert_eq!(case.ended(now, now, true, silence()), News::None);
        }
    }

    #[test]
    fn a_failure_is_its_question_s_own_if_another_was_answered_meanwhile() {
        let mut case = Case::new();
        case.heard(5);
        case.ended(4, 5, false, Ending::Answered);
        assert_eq!(case.ended(1, 16, false, silence()), News::None);
        assert_eq!(case.admit(16), Admission::Go);
        assert_eq!(case.ended(6, 21, false, silence()), News::Down);
    }

    #[test]
    fn what_shows_signs_of_life_is_only_in_doubt() {
        let mut case = Case::new();
        case.heard(1);
        assert_eq!(case.ended(0, 2, false, silence()), News::Down);
        assert_eq!(
            case.presence(3),
            Presence::Away(reason()),
            "with a copy, none asks"
        );
        assert_eq!(case.admit(3), Admission::Go, "without one, one may");
        // Nothing came of that either, not even a sign of life.
        assert_eq!(case.ended(3, 5, false, silence()), News::None);
        assert_eq!(case.admit(14), Admission::Refused(reason()));
        assert_eq!(case.admit(15), Admission::Probe);
    }

    #[test]
    fn three_failures_with_5xx_in_a_row_are_a_doubt() {
        let trouble = || Ending::Trouble(UpstreamError::Failed { status: 503 });
        let mut case = Case::new();
        for (at, news) in [(0, News::None), (1, News::None), (2, News::Down)] {
            case.heard(at);
            assert_eq!(case.ended(at, at, false, trouble()), news);
        }
        assert_eq!(case.admit(3), Admission::Go);
        // A 5xx is no answer that makes it up again.
        assert_eq!(case.admit(12), Admission::Probe);
        case.heard(12);
        assert_eq!(case.ended(12, 12, true, trouble()), News::None);
        assert!(matches!(case.presence(31), Presence::Away(_)));
        case.heard(31);
        case.ended(31, 31, false, Ending::Answered);
        assert_eq!(case.ended(32, 32, false, trouble()), News::None);
    }

    #[test]
    fn a_probe_that_is_dropped_or_tells_nothing_keeps_nobody_out_for_ever() {
        let mut case = Case::new();
        case.ended(0, 0, false, silence());
        assert_eq!(case.admit(10), Admission::Probe);
        case.condition.abandoned();
        assert_eq!(case.admit(10), Admission::Probe);
        assert_eq!(case.ended(10, 10, true, Ending::Unasked), News::None);
        assert_eq!(case.admit(19), Admission::Refused(reason()));
        assert_eq!(case.admit(20), Admission::Probe);
    }

    #[tokio::test]
    async fn who_comes_during_a_probe_waits_for_what_it_finds() {
        let availability = Availability::new("test".to_owned());
        let asked = Instant::now();
        availability.turn(false).await.unwrap().ended(silence());
        assert_eq!(availability.turn(false).await.err(), Some(reason()));
        availability.condition().down.as_mut().unwrap().until = asked;
        let probe = availability.turn(false).await.unwrap();
        let mut second = Box::pin(availability.turn(false));
        assert!(futures_util::poll!(&mut second).is_pending());
        availability.heard();
        probe.ended(Ending::Answered);
        assert!(second.await.is_ok_and(|turn| !turn.is_probe));
    }
}
