//! The pull limit that an upstream tells of in its answers, as Docker Hub does:
//!
//! ```text
//! ratelimit-limit: 100;w=21600
//! ratelimit-remaining: 76;w=21600
//! docker-ratelimit-source: 203.0.113.7
//! ```
//!
//! Docker Hub's manual, "Pull usage and limits". Without them there is no limit on this image or
//! for this account. The figures are the upstream's best effort, and foreign bytes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// For how long a remainder is believed that comes without its window.
const UNSAID_WINDOW: Duration = Duration::from_hours(6);
/// Nobody's window is longer.
const LONGEST_WINDOW: Duration = Duration::from_hours(31 * 24);
/// An IPv6 network or a UUID is shorter.
const LONGEST_SOURCE: usize = 64;

/// How many pulls an upstream still allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// How many pulls are allowed in each window.
    pub limit: u64,
    /// How many of them were left when that was said.
    pub remaining: u64,
    /// How long the upstream counts before it begins anew.
    pub window: Option<Duration>,
    /// Whom it counts for: an address, or an account's id.
    pub source: Option<String>,
    /// When it said so.
    pub seen: SystemTime,
}

/// How much is left, as far as it is worth a line in the log, or another behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Share {
    /// None.
    None,
    /// At most a tenth.
    Tenth,
    /// At most a quarter.
    Quarter,
    /// At most half.
    Half,
    /// More than that.
    Most,
}

impl Budget {
    /// Reads the three headers; `None` if the first two do not make sense together.
    pub(super) fn parse(
        limit: Option<&str>,
        remaining: Option<&str>,
        source: Option<&str>,
        seen: SystemTime,
    ) -> Option<Self> {
        let (limit, window) = quantity(limit?)?;
        let (remaining, other_window) = quantity(remaining?)?;
        Self {
            limit,
            remaining,
            window: other_window.or(window),
            source: source.map(|source| source.trim().to_owned()),
            seen,
        }
        .sound()
    }

    /// The same, without what nobody could have said; `None` if it makes no sense.
    fn sound(self) -> Option<Self> {
        if self.limit == 0 {
            return None;
        }
        let is_plain = |text: &String| {
            let is_written = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:/_".contains(&byte);
            !text.is_empty() && text.len() <= LONGEST_SOURCE && text.bytes().all(is_written)
        };
        Some(Self {
            remaining: self.remaining.min(self.limit),
            window: self.window.filter(is_likely),
            source: self.source.filter(is_plain),
            ..self
        })
    }

    /// How much is left.
    pub fn share(&self) -> Share {
        let is_within = |percent: u128| {
            u128::from(self.remaining) * 100 <= u128::from(self.limit).saturating_mul(percent)
        };
        match () {
            () if self.remaining == 0 => Share::None,
            () if is_within(10) => Share::Tenth,
            () if is_within(25) => Share::Quarter,
            () if is_within(50) => Share::Half,
            () => Share::Most,
        }
    }

    /// Whether it still says anything: the upstream has begun to count anew after its window, and
    /// what comes from the future was written by a clock that has been set back since.
    pub fn holds(&self, now: SystemTime) -> bool {
        let window = self.window.unwrap_or(UNSAID_WINDOW);
        now.duration_since(self.seen).is_ok_and(|age| age < window)
    }
}

fn is_likely(window: &Duration) -> bool {
    !window.is_zero() && *window <= LONGEST_WINDOW
}

/// `100;w=21600`: a number, and how many seconds it is counted for.
fn quantity(text: &str) -> Option<(u64, Option<Duration>)> {
    // The first of several limits is the one that counts first.
    let first = text.split(',').next()?;
    let mut parts = first.split(';').map(str::trim);
    let number = parts.next()?.parse().ok()?;
    let window = parts.find_map(|part| part.strip_prefix("w=")?.trim().parse().ok());
    let window = window.map(Duration::from_secs);
    Some((number, window.filter(is_likely)))
}

/// What an upstream last told of its limit.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Option<Budget>>);

impl Ledger {
    fn entry(&self) -> MutexGuard<'_, Option<Budget>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self) -> Option<Budget> {
        self.entry().clone()
    }

    /// Takes down what an upstream told long ago, if that makes sense.
    pub(super) fn recall(&self, told: Budget) {
        *self.entry() = told.sound();
    }

    /// Takes down what an upstream tells, and says in the log what of it is news.
    pub(super) fn write(&self, upstream: &str, told: &Budget) {
        let before = self.entry().replace(told.clone());
        let (was, is) = (share_before(before.as_ref(), told), told.share());
        if was == Some(is) {
            return;
        }
        let Budget {
            limit, remaining, ..
        } = told;
        let window = told.window.map_or_else(String::new, |window| {
            format!(" in {}", humantime::format_duration(window))
        });
        let source = told.source.as_deref().unwrap_or("us");
        if is <= Share::Half && was.is_none_or(|was| is < was) {
            tracing::warn!(
                "upstream {upstream}: {remaining} of {limit} pulls{window} are left to {source}: mirrored tags stay fresh for longer"
            );
        } else {
            tracing::info!(
                "upstream {upstream}: {remaining} of {limit} pulls{window} are left to {source}"
            );
        }
    }
}

/// How much was left before something is told, if that was still worth something. Answers that come
/// together are not taken down in their order: the later one may stand there already.
fn share_before(before: Option<&Budget>, told: &Budget) -> Option<Share> {
    let before = before.filter(|before| before.seen > told.seen || before.holds(told.seen));
    before.map(Budget::share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(limit: &str, remaining: &str) -> Option<Budget> {
        let source = Some("203.0.113.7");
        Budget::parse(Some(limit), Some(remaining), source, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn the_headers_of_docker_hub_are_read() {
        let hours = Duration::from_hours(6);
        let budget = parse("100;w=21600", "76;w=21600").unwrap();
        assert_eq!((budget.limit, budget.remaining), (100, 76));
        assert_eq!(budget.window, Some(hours));
        assert_eq!(budget.source.as_deref(), Some("203.0.113.7"));
        for (limit, remaining, expected) in [
            ("100", "7", Some((100, 7, None))),
            ("100;w=21600", "7", Some((100, 7, Some(hours)))),
            (" 100 ; w=21600", " 7 ", Some((100, 7, Some(hours)))),
            ("100, 50;w=1", "7", Some((100, 7, None))),
            ("100;w=0", "101;w=x", Some((100, 100, None))),
            ("0;w=21600", "0;w=21600", None),
            ("-1", "1", None),
            ("", "1", None),
            ("100", "many", None),
            ("99999999999999999999999", "1", None),
        ] {
            let parsed = parse(limit, remaining);
            let parsed = parsed.map(|budget| (budget.limit, budget.remaining, budget.window));
            assert_eq!(parsed, expected, "{limit} {remaining}");
        }
        let half = |limit, remaining| Budget::parse(limit, remaining, None, SystemTime::now());
        assert_eq!(half(None, Some("1")), None);
        assert_eq!(half(Some("1"), None), None);
    }

    #[test]
    fn of_answers_that_come_together_only_one_is_news() {
        let told = parse("100;w=21600", "76;w=21600").unwrap();
        let at = |seconds| Budget {
            seen: told.seen + Duration::from_secs(seconds),
            ..told.clone()
        };
        for (before, after, expected) in [
            (at(10), at(10), Some(Share::Most)),
            (at(11), at(10), Some(Share::Most)),
            (at(10), at(11), Some(Share::Most)),
            (at(10), at(21_610), None),
        ] {
            assert_eq!(share_before(Some(&before), &after), expected);
        }
        assert_eq!(share_before(None, &at(10)), None);
    }

    #[test]
    fn shares_have_edges() {
        for (remaining, share) in [
            (100, Share::Most),
            (51, Share::Most),
            (50, Share::Half),
            (26, Share::Half),
            (25, Share::Quarter),
            (11, Share::Quarter),
            (10, Share::Tenth),
            (1, Share::Tenth),
            (0, Share::None),
        ] {
            let budget = parse("100", &remaining.to_string()).unwrap();
            assert_eq!(budget.share(), share, "{remaining}");
        }
    }

    #[test]
    fn a_remainder_is_worth_nothing_after_its_window() {
        let budget = parse("100;w=60", "0;w=60").unwrap();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(budget.holds(at(59)));
        assert!(!budget.holds(at(60)));
        let early = Budget {
            seen: at(100),
            ..budget
        };
        assert!(!early.holds(at(99)));
    }

    proptest! {
        #[test]
        fn garbage_is_harmless(limit in "\\PC{0,30}", remaining in "\\PC{0,30}", source in "\\PC{0,90}") {
            let seen = SystemTime::UNIX_EPOCH;
            let read = Budget::parse(Some(&limit), Some(&remaining), Some(&source), seen);
            if let Some(budget) = read {
                prop_assert!(budget.limit > 0 && budget.remaining <= budget.limit);
                let is_plain = |text: &String| text.len() <= LONGEST_SOURCE && text.is_ascii();
                prop_assert!(budget.source.as_ref().is_none_or(is_plain));
            }
        }

        #[test]
        fn shares_shrink_with_what_is_left(limit in 1u64.., a in any::<u64>(), b in any::<u64>()) {
            let share = |remaining: u64| parse(&limit.to_string(), &remaining.to_string()).unwrap().share();
            let (less, more) = (a.min(b), a.max(b));
            prop_assert!(share(less) <= share(more));
        }
    }
}
