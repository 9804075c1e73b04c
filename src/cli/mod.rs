//! The command line: one file per command.

mod adopt;
mod allocator;
mod completions;
mod config;
mod doctor;
mod entrypoint;
mod export;
mod files;
mod garbage_collect;
mod greet;
mod images;
mod import;
mod interrupt;
mod log;
mod ls;
mod machine;
mod man;
mod offline;
mod outfile;
mod own;
mod parts;
mod place;
mod ready;
mod reload;
mod serve;
mod services;
mod setup;
mod supervisor;
mod transfer;
mod verify;
mod warm;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgAction, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::config::Config;

/// The names that Distribution's program has: ours too, by a symbolic link.
const DISTRIBUTION: [&str; 2] = ["registry", "docker-registry"];

/// A mirror of Docker Hub and other registries that fills itself as people pull, and a registry
/// that keeps what people push.
#[derive(Debug, Parser)]
#[command(
    name = "larder",
    version,
    disable_version_flag = true,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  larder                          mirror Docker Hub on port 5000, keep the data in ./larder-data
  larder serve config.yml         serve as config.yml says
  larder config > config.yml      write the built-in configuration to start from

Then, in /etc/docker/daemon.json:
  { \"registry-mirrors\": [\"http://localhost:5000\"] }
or let `larder setup docker` say it; `larder doctor` says what is not well"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ConfigFile,
    /// Print the version
    #[arg(short = 'V', short_alias = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the registry and the mirror (what happens without a command)
    #[command(after_help = "Examples:
  larder serve                                       mirror Docker Hub and others on port 5000
  larder serve /etc/larder/config.yml                as that file says; kill -HUP has it read again
  REGISTRY_HTTP_ADDR=:8080 larder serve config.yml   one key set otherwise")]
    Serve(ConfigFile),
    /// Remove content that nothing refers to, also while a larder serves it
    GarbageCollect(garbage_collect::Arguments),
    /// Ask no upstream and serve what is here, or ask again, also while a larder serves it
    Offline(offline::Arguments),
    /// Fetch images before anybody needs them
    Warm(warm::Arguments),
    /// List what is stored: images, where they came from, their size and age; or the upstreams
    Ls(ls::Arguments),
    /// Check all that is stored, also while a larder serves it
    Verify(verify::Arguments),
    /// Write images into one file, to be imported elsewhere
    Export(export::Arguments),
    /// Take in images that export, docker save or others have written, also while a larder serves
    Import(import::Arguments),
    /// Say what docker, containerd, podman, buildkit or k3s must be told to pull through larder;
    /// write it; try it
    Setup(setup::Arguments),
    /// Look whether all is well: disk, clock, upstreams, port, limits; and say what to do
    Doctor(doctor::Arguments),
    /// Show the configuration in force: the built-in one, or a file with the environment applied
    #[command(after_help = "Examples:
  larder config > config.yml                         the built-in one, with its comments, to start from
  larder config /etc/larder/config.yml               is there a mistake in it? what of it has no effect?
  REGISTRY_CACHE_MAXSIZE=50GB larder config          with what a variable sets")]
    Config(ConfigFile),
    /// Print what makes a shell complete larder's commands and options
    Completions(completions::Arguments),
    /// Print the manual
    Man(man::Arguments),
}

#[derive(Clone, Debug, Args)]
struct ConfigFile {
    /// The configuration, in the format of Distribution's config.yml; without one, the built-in
    /// configuration holds. REGISTRY_* variables override both
    #[arg(value_name = "CONFIG")]
    path: Option<PathBuf>,
}

/// The same for commands whose arguments without a name are images.
#[derive(Clone, Debug, Args)]
struct ConfigOption {
    /// The configuration, as for `larder serve`; without one, the built-in configuration holds.
    /// REGISTRY_* variables override both
    #[arg(short = 'c', long = "config", value_name = "CONFIG")]
    path: Option<PathBuf>,
}

impl ConfigOption {
    fn file(&self) -> ConfigFile {
        ConfigFile {
            path: self.path.clone(),
        }
    }

    fn load(&self) -> Result<Config, String> {
        self.file().load()
    }
}

/// How much a command says that takes a while.
#[derive(Clone, Copy, Debug, Args)]
struct Quiet {
    /// Say nothing but what went wrong
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the command that the arguments ask for.
pub fn run() -> ExitCode {
    let arguments = entrypoint::as_meant(std::env::args_os().collect());
    let name = arguments.first().map_or("", |name| file_name(name));
    let name = DISTRIBUTION.into_iter().find(|known| *known == name);
    let is_distribution = name.is_some();
    let mut command = command(name.unwrap_or("larder"));
    // Without arguments Distribution says how it is used; only larder has a configuration for that.
    if is_distribution && arguments.len() == 1 {
        return match command.print_help() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    if let Some(unknown) = no_such_command(&command, &arguments).filter(|_| !is_distribution) {
        say(&format!(
            "larder: there is no command {unknown} (`larder --help` lists them)"
        ));
        return ExitCode::from(2);
    }
    let matches = command.get_matches_from(arguments);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if let Some(unknown) = cli.unknown_command().filter(|_| is_distribution) {
        let unknown = unknown.display();
        say(&format!(
            "Error: unknown command \"{unknown}\" for \"registry\""
        ));
        say("Run 'registry --help' for usage.");
        // With 0: Distribution's main function takes no notice of what its commands say.
        return ExitCode::SUCCESS;
    }
    let done = match cli.command {
        None => serve::run(&cli.serve),
        Some(Command::Serve(file)) => serve::run(&file),
        Some(Command::Config(file)) => config::run(&file),
        Some(Command::Completions(arguments)) => completions::run(&arguments),
        Some(Command::Man(arguments)) => man::run(&arguments),
        Some(Command::Warm(arguments)) => warm::run(&arguments),
        Some(Command::Verify(arguments)) => verify::run(&arguments),
        Some(Command::GarbageCollect(arguments)) => garbage_collect::run(&arguments),
        Some(Command::Offline(arguments)) => offline::run(&arguments),
        Some(Command::Ls(arguments)) => ls::run(&arguments),
        Some(Command::Export(arguments)) => export::run(&arguments),
        Some(Command::Import(arguments)) => import::run(&arguments),
        Some(Command::Setup(arguments)) => setup::run(&arguments),
        Some(Command::Doctor(arguments)) => doctor::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // Distribution's messages begin with what is wrong.
            if is_distribution {
                say(&message);
            } else {
                say(&format!("larder: {message}"));
            }
            ExitCode::FAILURE
        }
    }
}

impl Cli {
    /// What stands in a command's place. larder serves a file that is named there; Distribution
    /// does not, but the entry point of its image does, and tells one by its name.
    fn unknown_command(&self) -> Option<&Path> {
        let path = self.serve.path.as_deref()?;
        let is_file = path
            .extension()
            .is_some_and(|extension| extension == "yml" || extension == "yaml");
        (!is_file).then_some(path)
    }
}

/// All commands, of a program of this name.
fn command(name: &'static str) -> clap::Command {
    Cli::command()
        .name(name)
        .mut_subcommand("garbage-collect", garbage_collect::with_values)
}

/// What stands in a command's place and is none, though more follows: of a configuration, nothing
/// would follow.
fn no_such_command(command: &clap::Command, arguments: &[OsString]) -> Option<String> {
    const OF_LARDER: [&str; 5] = ["-h", "--help", "-V", "-v", "--version"];
    let (first, second) = (arguments.get(1)?.to_str()?, arguments.get(2)?);
    let is_known = first.starts_with('-') || command.find_subcommand(first).is_some();
    let is_option = OF_LARDER.iter().any(|option| second == option);
    (!is_known && first != "help" && !is_option).then(|| first.to_owned())
}

/// The name of a program, by its path; nothing if it is not text.
fn file_name(path: &OsStr) -> &str {
    let name = Path::new(path).file_name();
    name.and_then(OsStr::to_str).unwrap_or_default()
}

/// Whether the data directory is there, for commands that must not make it.
fn must_be_there(root: &Path) -> Result<(), String> {
    if root.is_dir() {
        return Ok(());
    }
    let mut place = root.display().to_string();
    // A path that is not absolute means another directory in each.
    if let (true, Ok(here)) = (root.is_relative(), std::env::current_dir()) {
        place = format!("{place} (in {})", here.display());
    }
    Err(format!(
        "{place} is not there: set storage.filesystem.rootdirectory to the data directory, or start larder once to have it made"
    ))
}

/// Writes a line for the person at the terminal. There is nobody to tell if that fails.
fn say(line: &str) {
    drop(writeln!(io::stderr(), "{line}"));
}

/// What a command makes of the end of its output. A reader that has gone, as `head` does, has seen
/// what it wanted; anything else is missing something.
fn printed(written: io::Result<()>) -> Result<(), String> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write to standard output: {error}"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

impl ConfigFile {
    /// The file named on the command line, or by Distribution's variable.
    fn path(&self) -> Option<PathBuf> {
        let from_environment = || std::env::var_os("REGISTRY_CONFIGURATION_PATH").map(Into::into);
        self.path.clone().or_else(from_environment)
    }

    fn load(&self) -> Result<Config, String> {
        let path = self.path();
        let file = path.as_deref().map(read).transpose()?;
        // Variables that are not text cannot be meant for us.
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let file = path.as_deref().zip(file);
        Config::load(file, environment).map_err(|error| format!("configuration error: {error}"))
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| {
        // A misspelt command looks like a file's name.
        let hint = match error.kind() {
            io::ErrorKind::NotFound => " (`larder --help` lists the commands)",
            _ => "",
        };
        format!(
            "cannot read the configuration {}: {error}{hint}",
            path.display()
        )
    })
}
