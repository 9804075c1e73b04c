//! `larder verify`: whether what is stored is there and sound.

use clap::Args;

use super::{ConfigOption, ready};

/// The command's arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder verify --offline python:3.12              can this machine pull it with no network?
  larder verify --offline -f class.txt --platform linux/amd64 --platform linux/arm64
  larder verify --offline --deep                   those under cache.warm, every byte read

The exit code is 0 if all of them are ready, and 1 if not.")]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigOption,
    /// Say of images whether they can be pulled with no network
    #[arg(long)]
    offline: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ready: ready::Arguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), String> {
    if !arguments.offline {
        return Err("this larder verifies images only: say --offline and which".to_owned());
    }
    ready::run(&arguments.ready, &arguments.config, arguments.json)
}
