//! `larder man`: the manual, made of what `--help` says.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::outfile::OutFile;
use super::{command, printed};

/// The command's arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder man | man -l -
  larder man garbage-collect | man -l -
  larder man --into /usr/local/share/man/man1")]
pub(super) struct Arguments {
    /// The command to print the page of [default: the page of larder itself]
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
    /// Write all pages into this directory instead
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    into: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), String> {
    let mut larder = command("larder").disable_help_subcommand(true);
    // Names the subcommands in full, as their pages are named.
    larder.build();
    let unwritten = |error: io::Error| format!("cannot write the manual: {error}");
    if let Some(directory) = &arguments.into {
        return write_all(larder, directory);
    }
    let text = match &arguments.command {
        None => main_page(larder),
        Some(name) => {
            let found = larder.find_subcommand(name).cloned();
            let found = found.ok_or_else(|| {
                format!("there is no command {name:?} (`larder --help` lists the commands)")
            })?;
            page(found)
        }
    };
    let text = text.map_err(unwritten)?;
    let mut out = io::stdout();
    printed(out.write_all(&text).and_then(|()| out.flush()))
}

fn write_all(larder: Command, directory: &Path) -> Result<(), String> {
    let commands: Vec<Command> = larder.get_subcommands().cloned().collect();
    let pages = commands.into_iter().map(|command| {
        let name = command.get_display_name().map(ToOwned::to_owned);
        (name.unwrap_or_default(), page(command))
    });
    let main = ("larder".to_owned(), main_page(larder));
    for (name, text) in pages.chain([main]) {
        let path = directory.join(format!("{name}.1"));
        let unwritten = |error: io::Error| format!("cannot write {}: {error}", path.display());
        let file = OutFile::create(&path, true)?;
        let text = text.map_err(unwritten)?;
        file.file().write_all(&text).map_err(unwritten)?;
        file.finish()?;
    }
    Ok(())
}

/// A command's page.
fn page(command: Command) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let is_command = command.get_name() != "larder";
    let version = concat!("larder ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command).section("1").manual("larder");
    let man = man.source(version).date(DATE);
    man.render(&mut text)?;
    if is_command {
        see_also(&mut text)?;
    }
    Ok(text)
}

fn see_also(text: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::default();
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold("larder"), roman("(1)")]);
    roff.to_writer(text)
}

/// The program's own page, with what no option is about.
fn main_page(larder: Command) -> io::Result<Vec<u8>> {
    let mut text = page(larder)?;
    let mut roff = Roff::default();
    roff.control("SH", ["ENVIRONMENT"]);
    for (name, meaning) in ENVIRONMENT {
        roff.control("TP", []);
        roff.text([bold(name)]);
        roff.text([roman(meaning)]);
    }
    roff.control("SH", ["SIGNALS"]);
    for (name, meaning) in SIGNALS {
        roff.control("TP", []);
        roff.text([bold(name)]);
        roff.text([roman(meaning)]);
    }
    roff.to_writer(&mut text)?;
    Ok(text)
}

/// When what is said here was last looked through.
const DATE: &str = "2026-11-21";

const ENVIRONMENT: [(&str, &str); 5] = [
    (
        "REGISTRY_CONFIGURATION_PATH",
        "The configuration to use where none is named.",
    ),
    (
        "REGISTRY_*",
        "A key of the configuration, its path in capitals with underscores between: REGISTRY_HTTP_ADDR is http.addr. It counts more than the file.",
    ),
    (
        "HTTP_PROXY, HTTPS_PROXY, NO_PROXY",
        "How other registries are reached.",
    ),
    (
        "SSL_CERT_FILE, SSL_CERT_DIR",
        "The certificates to trust instead of the system's. Where there are none, Mozilla's are built in.",
    ),
    (
        "LISTEN_FDS, NOTIFY_SOCKET",
        "Set by a service manager: the socket to serve, and where to say that it is served.",
    ),
];

const SIGNALS: [(&str, &str); 2] = [
    (
        "SIGHUP",
        "Reads the configuration again. A mistake in it changes nothing, and is in the log.",
    ),
    (
        "SIGTERM, SIGINT",
        "Stops when the answers under way are finished; a second one stops at once.",
    ),
];
