//! `larder doctor`: what may keep larder from working well on this machine, and what to do about it.

mod disk;
mod files;
mod network;
mod upstreams;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::SystemTime;

use clap::Args;
use serde_json::json;

use crate::config::{Config, Level};

use super::ConfigOption;

/// The command's arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder doctor                             as larder would run here without a configuration
  larder doctor -c /etc/larder/config.yml   also while larder serves; best as the user that it runs as

It asks each upstream once, unless larder is offline, and writes one small file into the data \
directory, which it removes. The exit status is 1 if something is broken.")]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigOption,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fine,
    /// It works, but not as well as it could, or not for long.
    Doubtful,
    /// It keeps larder from working.
    Broken,
}

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    /// What was looked at, in a word or two.
    about: String,
    state: State,
    /// What was seen.
    seen: String,
    /// What to do about it.
    todo: Option<String>,
}

impl Finding {
    fn fine(about: &str, seen: impl Into<String>) -> Self {
        Self {
            about: about.to_owned(),
            state: State::Fine,
            seen: seen.into(),
            todo: None,
        }
    }

    fn doubtful(about: &str, seen: impl Into<String>, todo: impl Into<String>) -> Self {
        Self {
            state: State::Doubtful,
            todo: Some(todo.into()),
            ..Self::fine(about, seen)
        }
    }

    fn broken(about: &str, seen: impl Into<String>, todo: impl Into<String>) -> Self {
        Self {
            state: State::Broken,
            todo: Some(todo.into()),
            ..Self::fine(about, seen)
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), String> {
    let findings = match arguments.config.load() {
        Ok(config) => look(&config)?,
        Err(error) => vec![Finding::broken(
            "configuration",
            error,
            "larder does not start with it: change what is named, and run larder doctor again",
        )],
    };
    let text = if arguments.json {
        as_json(&findings)
    } else {
        as_text(&findings)
    };
    // Whoever listened may have gone.
    drop(io::stdout().write_all(text.as_bytes()));
    let is_broken = |finding: &&Finding| finding.state == State::Broken;
    match findings.iter().filter(is_broken).count() {
        0 => Ok(()),
        1 => Err("1 thing is broken".to_owned()),
        count => Err(format!("{count} things are broken")),
    }
}

fn look(config: &Config) -> Result<Vec<Finding>, String> {
    let now = SystemTime::now();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let mut findings = notices(config);
    findings.extend(disk::look(config));
    findings.push(files::limit());
    findings.extend(files::certificate(config, now));
    findings.extend(files::users(config));
    let (port, asked) =
        runtime.block_on(async { tokio::join!(network::port(config), upstreams::look(config)) });
    findings.extend(port);
    findings.extend(asked);
    Ok(findings)
}

fn notices(config: &Config) -> Vec<Finding> {
    let finding = |warning: &crate::config::Warning| match warning.level {
        Level::Error | Level::Warn => Finding::doubtful(
            "configuration",
            warning.to_string(),
            "change it, so that it says what happens",
        ),
        Level::Info | Level::Debug => Finding::fine("configuration", warning.to_string()),
    };
    let mut findings: Vec<_> = config.warnings.iter().map(finding).collect();
    if findings.is_empty() {
        findings.push(Finding::fine("configuration", "nothing to say about it"));
    }
    findings
}

fn as_text(findings: &[Finding]) -> String {
    let widths = findings.iter().map(|it| it.about.chars().count());
    let width = widths.max().unwrap_or_default();
    let mut text = String::new();
    for finding in findings {
        let state = match finding.state {
            State::Fine => "ok    ",
            State::Doubtful => "look  ",
            State::Broken => "BROKEN",
        };
        let Finding { about, seen, .. } = finding;
        // Writing to a String does not fail.
        _ = writeln!(text, "{state}  {about:<width$}  {seen}");
        if let Some(todo) = &finding.todo {
            _ = writeln!(text, "{:indent$}{todo}", "", indent = width + 10);
        }
    }
    text
}

fn as_json(findings: &[Finding]) -> String {
    let one = |finding: &Finding| {
        json!({
            "about": finding.about,
            "state": match finding.state {
                State::Fine => "fine",
                State::Doubtful => "doubtful",
                State::Broken => "broken",
            },
            "seen": finding.seen,
            "todo": finding.todo,
        })
    };
    let count = |state| findings.iter().filter(|it| it.state == state).count();
    let all = json!({
        "findings": findings.iter().map(one).collect::<Vec<_>>(),
        "broken": count(State::Broken),
        "doubtful": count(State::Doubtful),
    });
    format!("{all:#}\n")
}
