//! How far a long transfer is: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::say;

/// How often a line is written where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(10);

/// The progress of so many bytes.
pub(super) struct Transfer {
    bar: ProgressBar,
    total: u64,
    started: Instant,
    /// When the last line was written; `None` where the bar is seen, or nothing is wanted.
    told: Option<Mutex<Instant>>,
}

impl Transfer {
    pub(super) fn new(total: u64, quiet: bool) -> Self {
        let is_seen = !quiet && std::io::stderr().is_terminal();
        let target = if is_seen {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let style = ProgressStyle::with_template(
            "{bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
        );
        if let Ok(style) = style {
            bar.set_style(style);
        }
        let started = Instant::now();
        Self {
            bar,
            total,
            started,
            told: (!is_seen && !quiet).then(|| Mutex::new(started)),
        }
    }

    /// So many bytes more are done.
    pub(super) fn moved(&self, bytes: u64) {
        self.bar.inc(bytes);
        let Some(told) = &self.told else { return };
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() >= INTERVAL {
            *told = Instant::now();
            let done = self.bar.position();
            say(&format!(
                "{} of {}, {}/s",
                HumanBytes(done),
                HumanBytes(self.total),
                self.speed()
            ));
        }
    }

    /// Bytes per second so far.
    pub(super) fn speed(&self) -> HumanBytes {
        let millis = self.started.elapsed().as_millis().max(1);
        let speed = u128::from(self.bar.position()) * 1000 / millis;
        HumanBytes(u64::try_from(speed).unwrap_or(u64::MAX))
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
