//! `larder setup`: what a client must be told, written where it belongs, and tried.

pub(super) mod about;
mod apply;
mod check;
mod client;
pub(super) mod shown;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};

use crate::oci::Image;
use crate::setup::{self, Client, ClientText};

use super::{ConfigOption, printed};
use about::Address;

/// The command's arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder setup docker                          what goes where, for docker
  larder setup docker --apply                  write it, after showing what changes
  larder setup docker --check                  does docker pull through larder?
  larder setup k3s --address 192.168.1.10:5000
  larder setup podman --address https://registry.example.com --apply --yes

What is said is for the larder of the configuration: its address is http.host, or else http.addr with \
an address of this machine. On another machine give it the server's configuration, or --address \
and the upstreams as in that one. Where it asks for a password, LARDER_USERNAME and LARDER_PASSWORD \
say who asks for --check.")]
pub(super) struct Arguments {
    /// Which client
    #[arg(value_name = "CLIENT", value_parser = clients())]
    client: Client,
    #[command(flatten)]
    config: ConfigOption,
    /// Where clients reach larder: a host with its port, with http:// or https:// before it if that
    /// is not as the configuration has it
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<Address>,
    /// The certificate that clients are to trust, PEM
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Write it into the client's files: show the difference, ask, and keep a copy of what was there
    #[arg(long)]
    apply: bool,
    /// Do not ask
    #[arg(short, long, requires = "apply")]
    yes: bool,
    /// Pull as the client would, through larder, and say what came; exit status 1 if it does not work
    #[arg(long)]
    check: bool,
    /// What to pull for --check [default: the first of cache.warm, or hello-world]
    #[arg(long, value_name = "IMAGE", requires = "check")]
    image: Option<Image>,
    /// Where the client's files are: another root than /, as of an image of a machine
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

fn clients() -> impl clap::builder::TypedValueParser<Value = Client> {
    PossibleValuesParser::new(Client::ALL.map(Client::name)).try_map(|name| {
        let mut all = Client::ALL.into_iter();
        all.find(|client| client.name() == name)
            .ok_or("no such client")
    })
}

pub(super) fn run(arguments: &Arguments) -> Result<(), String> {
    let config = arguments.config.load()?;
    let known = about::about(&config, arguments.address.as_ref(), arguments.ca.as_deref())?;
    let mut text = setup::text(arguments.client, &known.about);
    text.notes.extend(known.notes);
    if arguments.apply {
        apply::apply(&text, &arguments.root, arguments.yes)?;
    }
    if arguments.check {
        return check::check(arguments, &config, &known.about, &text);
    }
    if arguments.apply {
        return Ok(());
    }
    let mut out = io::stdout();
    let text = shown(&text, &known.about.url());
    printed(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// All of it, for somebody who reads and copies.
fn shown(text: &ClientText, url: &str) -> String {
    let mut shown = format!("{}, with the larder at {url}\n", text.title);
    for file in &text.files {
        // Writing to a String does not fail.
        _ = write!(shown, "\n{}:\n\n{}", file.path, file.text);
    }
    if text.files.is_empty() {
        shown += "\nNothing has to be written.\n";
    } else if !text.commands.is_empty() {
        shown += "\nThen:\n\n";
    }
    for command in &text.commands {
        _ = writeln!(shown, "  {command}");
    }
    for (at, note) in text.notes.iter().enumerate() {
        let gap = if at == 0 { "\n" } else { "" };
        _ = writeln!(shown, "{gap}- {note}");
    }
    if !text.files.is_empty() {
        let name = text.name;
        _ = writeln!(
            shown,
            "\nlarder setup {name} --apply writes this, beside what is there; larder setup {name} --check tries it."
        );
    }
    shown
}
