//! How far it is: bars on a terminal, lines elsewhere.

use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::oci::{Digest, Image, ImagePart, Role};
use crate::registry::{Kept, News, WarmError, Warmed};

use super::super::{images, say};

/// A layer: what it is of, how much has come, how fast, and how long it still takes.
const LAYER: &str =
    "  {prefix:34!} {bar:20} {bytes:>11} /{total_bytes:>11} {bytes_per_sec:>14} {eta:>5}";

/// All of them.
const TOTAL: &str =
    "{prefix:36!} {bar:20} {bytes:>11} /{total_bytes:>11} {bytes_per_sec:>14} {eta:>5}";

/// What is shown while images are fetched.
pub(super) struct Progress {
    quiet: bool,
    bars: Option<MultiProgress>,
    total: ProgressBar,
    state: Mutex<State>,
}

struct State {
    images: usize,
    done: usize,
    layers: HashMap<Digest, Layer>,
}

/// A blob that somebody waits for.
struct Layer {
    /// As its manifest says, in bytes.
    size: u64,
    moved: u64,
    started: Instant,
    bar: Option<ProgressBar>,
    /// Whether it is among the total.
    counts: bool,
}

/// A time, as people like to read it.
pub(super) fn shown(time: Duration) -> String {
    let short = Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let short = if short >= Duration::from_secs(10) {
        Duration::from_secs(short.as_secs())
    } else {
        short
    };
    humantime::format_duration(short).to_string()
}

impl Progress {
    pub(super) fn new(images: usize, quiet: bool) -> Self {
        let bars = (!quiet && std::io::stderr().is_terminal())
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        let total = ProgressBar::hidden();
        let total = match &bars {
            Some(bars) => bars.add(styled(total, TOTAL)),
            None => total,
        };
        total.set_length(0);
        let progress = Self {
            quiet,
            bars,
            total,
            state: Mutex::new(State {
                images,
                done: 0,
                layers: HashMap::new(),
            }),
        };
        progress.count(&progress.state());
        progress
    }

    pub(super) fn tell(&self, news: &News<'_>) {
        match news {
            News::Known(_, parts) => self.known(parts),
            News::Started(image, part) => self.started(image, part),
            News::Moved(part, bytes) => self.moved(part, *bytes),
            News::Ended(image, part, result) => self.ended(image, part, result),
            News::Done(warmed) => {
                let mut state = self.state();
                state.done += 1;
                self.count(&state);
                drop(state);
                match &warmed.failure {
                    None => self.line(&image_line(warmed)),
                    Some(error) => self.complain(&format!("failed {}: {error}", warmed.image)),
                }
            }
        }
    }

    /// Writes a line to the standard output, above the bars if there are some.
    pub(super) fn line(&self, line: &str) {
        if self.quiet {
            return;
        }
        // Whoever listened has gone; what was asked for is done all the same.
        let write = || drop(writeln!(std::io::stdout(), "{line}"));
        match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }

    /// Writes what went wrong to the standard error, whoever wants to hear only that.
    fn complain(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| say(line)),
            None => say(line),
        }
    }

    pub(super) fn finish(&self) {
        self.total.finish_and_clear();
    }

    fn known(&self, parts: &[ImagePart]) {
        let mut state = self.state();
        for part in parts {
            let layer = state.layer(part);
            if !layer.counts {
                layer.counts = true;
                self.total
                    .inc_length(layer.size.saturating_sub(layer.moved));
            }
        }
    }

    fn started(&self, image: &Image, part: &ImagePart) {
        let mut state = self.state();
        let layer = state.layer(part);
        layer.started = Instant::now();
        if layer.bar.is_none() && part.role == Role::Layer {
            let bar = ProgressBar::hidden();
            bar.set_length(layer.size);
            bar.set_prefix(format!("{} {image}", short(&part.part.digest)));
            layer.bar = Some(bar);
        }
    }

    fn moved(&self, part: &ImagePart, bytes: u64) {
        let mut state = self.state();
        let layer = state.layer(part);
        // A second try begins at the beginning.
        let bytes = bytes.min(layer.size.saturating_sub(layer.moved));
        if layer.moved == 0
            && let (Some(bars), Some(bar)) = (&self.bars, layer.bar.take())
        {
            // What is here already never comes to this, and does not flicker.
            layer.bar = Some(styled(bars.insert_before(&self.total, bar), LAYER));
        }
        layer.moved += bytes;
        if let Some(bar) = &layer.bar {
            bar.inc(bytes);
        }
        self.total.inc(bytes);
    }

    fn ended(&self, image: &Image, part: &ImagePart, result: &Result<Kept, WarmError>) {
        let mut state = self.state();
        let layer = state.layer(part);
        let (size, took) = (layer.size, layer.started.elapsed());
        if let Some(bar) = layer.bar.take() {
            bar.finish_and_clear();
        }
        // What does not come any more is not waited for.
        let rest = size.saturating_sub(layer.moved);
        layer.moved = size;
        if layer.counts && rest > 0 {
            let length = self.total.length().unwrap_or(0);
            self.total.set_length(length.saturating_sub(rest));
        }
        drop(state);
        if let (Ok(Kept::Fetched), Role::Layer, None) = (result, part.role, &self.bars) {
            let digest = short(&part.part.digest);
            self.line(&format!("  {digest} {image}: {}", fetched(size, took)));
        }
    }

    fn count(&self, state: &State) {
        let State { images, done, .. } = state;
        self.total
            .set_prefix(format!("{done} of {}", images::number(*images)));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn layer(&mut self, part: &ImagePart) -> &mut Layer {
        let new = || Layer {
            size: part.part.size,
            moved: 0,
            started: Instant::now(),
            bar: None,
            counts: false,
        };
        self.layers
            .entry(part.part.digest.clone())
            .or_insert_with(new)
    }
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Twelve digits, as docker shows them.
fn short(digest: &Digest) -> &str {
    digest.hex().get(..12).unwrap_or_default()
}

fn fetched(size: u64, took: Duration) -> String {
    let seconds = took.as_secs_f64().max(0.001);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a speed is shown with three digits"
    )]
    let speed = (size as f64 / seconds) as u64;
    format!(
        "{} in {} ({}/s)",
        HumanBytes(size),
        shown(took),
        HumanBytes(speed)
    )
}

fn image_line(warmed: &Warmed) -> String {
    let Warmed {
        image,
        done,
        failure: _,
        took,
    } = warmed;
    let (new, old) = (done.fetched, done.here);
    let old_bytes = HumanBytes(old.bytes);
    let mut parts = Vec::new();
    match () {
        () if done.is_local => parts.push(format!("here   {image}: it was pushed here")),
        () if new.number + old.number == 0 => {
            parts.push(format!("here   {image}: nothing more to fetch"));
        }
        () if new.number == 0 => {
            parts.push(format!("here   {image}: here already ({old_bytes})"));
        }
        () => {
            let took = shown(*took);
            parts.push(format!(
                "ready  {image}: {} fetched in {took}",
                HumanBytes(new.bytes)
            ));
        }
    }
    if new.number > 0 && old.number > 0 {
        parts.push(format!("{old_bytes} were here already"));
    }
    if done.is_stale {
        parts.push("its upstream could not be asked for a newer one".to_owned());
    }
    if let Some(platform) = &done.other {
        parts.push(format!("it comes for {platform} only"));
    }
    parts.join("; ")
}
