//! `larder completions`: what a shell needs to complete larder's commands and options.

use std::io::Write as _;

use clap::Args;
use clap_complete::Shell;

use super::{command, printed};

/// The command's arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder completions bash > /usr/share/bash-completion/completions/larder
  larder completions zsh > /usr/share/zsh/vendor-completions/_larder
  larder completions fish > /usr/share/fish/vendor_completions.d/larder.fish")]
pub(super) struct Arguments {
    /// Whose language to write
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), String> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut command("larder"), "larder", &mut text);
    let mut out = std::io::stdout();
    printed(out.write_all(&text).and_then(|()| out.flush()))
}
