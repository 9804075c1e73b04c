//! `larder garbage-collect`: what is removed, said as Distribution's command says it.

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::Path;
use std::time::Duration;

use clap::{Arg, ArgAction, Args, Command};
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::store::{Collected, Collection, Step, Store};

use super::{ConfigFile, Quiet, say};

/// What is kept, without `--grace`, for how long after it was last touched while a larder serves
/// the directory: long enough for any push.
const GRACE: Duration = Duration::from_hours(1);

/// The command's arguments: those of Distribution, and `--grace`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder garbage-collect -d config.yml       what would go?
  larder garbage-collect config.yml          remove it, also while larder serves
  larder garbage-collect -m config.yml       and images that no tag names any more")]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Only say what would be removed
    #[arg(short, long)]
    dry_run: bool,
    /// Remove manifests that no tag leads to, too
    #[arg(short = 'm', long)]
    delete_untagged: bool,
    #[command(flatten)]
    quiet: Quiet,
    /// Keep what was pushed, or asked for by a pusher, in this time before [default: what the
    /// configuration says if a larder serves the directory meanwhile, else 0s]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    grace: Option<Duration>,
}

/// Lets switches have values, as Go's have: `--dry-run=false`, `-d=1`; the last one counts.
pub(super) fn with_values(command: Command) -> Command {
    command.mut_args(|switch| match switch.get_action() {
        ArgAction::SetTrue => valued(switch),
        _ => switch,
    })
}

fn valued(switch: Arg) -> Arg {
    let itself = switch.get_id().clone();
    switch
        .action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .value_parser(truth)
        .value_name("true|false")
        .default_value("false")
        .default_missing_value("true")
        .hide_default_value(true)
        .overrides_with(itself)
}

/// What Go's `strconv.ParseBool` takes for an answer.
fn truth(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("write true or false"),
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), String> {
    let config = arguments.config.load()?;
    super::log::start(&config.log, &config.log.fields);
    let configured = config.storage.collect.as_ref();
    let grace = configured.map_or(GRACE, |collect| collect.grace);
    let said = collect(arguments, &config.storage.root, grace)
        .map_err(|error| format!("failed to garbage collect: {error}"))?;
    super::printed(said)
}

/// `serving` is the grace period while somebody else serves the directory. What is collected may
/// not all have been said.
fn collect(
    arguments: &Arguments,
    root: &Path,
    serving: Duration,
) -> Result<io::Result<()>, String> {
    // Opening would make it, and a misspelt one would look clean.
    super::must_be_there(root)?;
    let store = Store::open_to_collect(root).map_err(|error| error.to_string())?;
    let usual = if store.is_alone() {
        Duration::ZERO
    } else {
        serving
    };
    let grace = arguments.grace.unwrap_or(usual);
    if !store.is_alone() && !arguments.quiet.quiet {
        say(&format!(
            "a larder serves {}: collecting beside it; what was touched in the last {} stays",
            root.display(),
            humantime::format_duration(grace)
        ));
    }
    let mut report = Report::new(arguments.quiet.quiet);
    let collection = Collection {
        untagged: arguments.delete_untagged,
        grace,
        dry_run: arguments.dry_run,
    };
    let collected = store.collect(collection, &|| false, &mut |step| report.tell(step));
    let said = report.finish();
    let collected = collected.map_err(|error| error.to_string())?;
    if !arguments.quiet.quiet {
        say(&summary(collected, arguments.dry_run));
    }
    Ok(said)
}

fn summary(collected: Collected, dry_run: bool) -> String {
    let Collected {
        manifests,
        links,
        blobs,
        bytes,
        doubtful,
    } = collected;
    let removed = if dry_run { "would remove" } else { "removed" };
    let freed = HumanBytes(bytes);
    let left = match doubtful {
        0 => String::new(),
        _ => format!("; left {doubtful} repositories alone that cannot be read wholly"),
    };
    format!(
        "{removed} {manifests} manifests, {links} layer links and {blobs} blobs: {freed} ({bytes} bytes){left}"
    )
}

/// Says on standard output what Distribution says, line by line, and shows on a terminal how far
/// it is.
struct Report {
    out: Option<BufWriter<io::Stdout>>,
    /// What ended that.
    failure: Option<io::Error>,
    bar: ProgressBar,
}

impl Report {
    fn new(quiet: bool) -> Self {
        // Lines that scroll by on the same terminal show the progress themselves.
        let is_shown = !quiet && io::stderr().is_terminal() && !io::stdout().is_terminal();
        let target = if is_shown {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} repositories  {msg}") {
            bar.set_style(style);
        }
        Self {
            out: (!quiet).then(|| BufWriter::new(io::stdout())),
            failure: None,
            bar,
        }
    }

    fn tell(&mut self, step: Step<'_>) {
        self.show(step);
        let Some(out) = &mut self.out else { return };
        let written = match step {
            Step::Repository(name) => writeln!(out, "{name}"),
            // The space at its end is Distribution's.
            Step::Manifest(name, digest) => writeln!(out, "{name}: marking manifest {digest} "),
            Step::Blob(name, digest) => writeln!(out, "{name}: marking blob {digest}"),
            Step::EligibleManifest(name, digest, tags) => writeln!(
                out,
                "manifest eligible for deletion: {{{name} {digest} [{}]}}",
                tags.join(" ")
            ),
            Step::Found(found) => writeln!(
                out,
                "\n{} blobs marked, {} blobs and {} manifests eligible for deletion",
                found.marked, found.blobs, found.manifests
            ),
            Step::EligibleBlob(digest) => writeln!(out, "blob eligible for deletion: {digest}"),
            Step::EligibleLink(name, digest) => {
                writeln!(out, "{name}: layer link eligible for deletion: {digest}")
            }
            Step::Blobs(_) => out.flush(),
        };
        // Nobody hears any more; what was asked for is done all the same.
        if let Err(error) = written {
            self.out = None;
            self.failure = Some(error);
        }
    }

    fn show(&self, step: Step<'_>) {
        match step {
            Step::Repository(name) => {
                self.bar.inc(1);
                self.bar.set_message(name.to_owned());
            }
            Step::Found(found) => {
                self.bar.set_length(found.blobs as u64);
                self.bar.set_position(0);
                self.bar.set_message("");
                let style = ProgressStyle::with_template("{bar:40} {pos}/{len} blobs  {eta}");
                if let Ok(style) = style {
                    self.bar.set_style(style);
                }
            }
            Step::Blobs(done) => self.bar.set_position(done as u64),
            _ => {}
        }
    }

    /// Ends it, and tells whether all of it was said.
    fn finish(mut self) -> io::Result<()> {
        self.bar.finish_and_clear();
        match (self.failure, &mut self.out) {
            (Some(error), _) => Err(error),
            (None, Some(out)) => out.flush(),
            (None, None) => Ok(()),
        }
    }
}
