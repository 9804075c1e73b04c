//! What carrying images out and in have in common: what they are told, and how far they are, as a
//! bar on a terminal and a line now and then elsewhere.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::bundle::Watch;
use crate::config::Config;

use super::interrupt::Interrupt;
use super::{ConfigOption, Quiet, log, say};

/// How often a line is written where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(10);

/// What `larder export` and `larder import` are told alike.
#[derive(Debug, Args)]
pub(super) struct Carrying {
    #[command(flatten)]
    quiet: Quiet,
    #[command(flatten)]
    config: ConfigOption,
}

impl Carrying {
    /// Reads the configuration. From then on there is a log.
    pub(super) fn begin(&self) -> Result<Config, String> {
        let config = self.config.load()?;
        log::start(&config.log, &config.log.fields);
        Ok(config)
    }

    /// Whether only what went wrong is to be said.
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet.quiet
    }

    /// Moves so many bytes, shows how far it is, and ends early when it is interrupted. Says how
    /// many bytes went by in a second, too.
    pub(super) fn moving<T>(
        &self,
        bytes: u64,
        work: impl FnOnce(Watch<'_>) -> T,
    ) -> Result<(T, HumanBytes), String> {
        let interrupt = Interrupt::catch()?;
        let transfer = Transfer::new(bytes, self.is_quiet());
        let done = work(Watch {
            moved: &|bytes| transfer.moved(bytes),
            stop: &|| interrupt.came(),
        });
        transfer.bar.finish_and_clear();
        Ok((done, transfer.speed()))
    }
}

/// The progress of so many bytes.
struct Transfer {
    bar: ProgressBar,
    total: u64,
    started: Instant,
    /// When the last line was written; `None` where the bar is seen, or nothing is wanted.
    told: Option<Mutex<Instant>>,
}

impl Transfer {
    fn new(total: u64, quiet: bool) -> Self {
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
    fn moved(&self, bytes: u64) {
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
    fn speed(&self) -> HumanBytes {
        let millis = self.started.elapsed().as_millis().max(1);
        let speed = u128::from(self.bar.position()) * 1000 / millis;
        HumanBytes(u64::try_from(speed).unwrap_or(u64::MAX))
    }
}
