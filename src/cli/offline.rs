//! `larder offline`: the switch that keeps all upstreams from being asked.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::store::{is_offline, set_offline};

use super::ConfigFile;

/// The command's arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder offline                      is it on?
  larder offline on                   no upstream is asked from now on, also after a restart
  larder offline off -c config.yml    upstreams are asked again

It holds at once for the larder that serves the data directory, and needs none to be running. \
Downloads under way end within a second, and go on from there when it is off again.")]
pub(super) struct Arguments {
    /// How to set it; without, says how it is set
    #[arg(value_name = "ON|OFF")]
    set: Option<Setting>,
    /// The configuration, which says where the data is
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Setting {
    /// No upstream is asked
    On,
    /// Upstreams are asked
    Off,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), String> {
    let file = ConfigFile {
        path: arguments.config.clone(),
    };
    let config = file.load()?;
    let root = &config.storage.root;
    super::must_be_there(root)?;
    if let Some(set) = arguments.set {
        set_offline(root, set == Setting::On).map_err(|error| error.to_string())?;
    }
    let said = match (is_offline(root), config.cache.offline) {
        (true, _) => format!(
            "on: no upstream is asked, what is in {} is served",
            root.display()
        ),
        (false, true) => {
            "on: cache.offline in the configuration says so, whatever is typed here".to_owned()
        }
        (false, false) => "off: upstreams are asked".to_owned(),
    };
    // Whoever listened has gone; the switch is set all the same.
    drop(writeln!(io::stdout(), "{said}"));
    if arguments.set == Some(Setting::Off) && config.cache.offline {
        return Err("set cache.offline to false in the configuration, and reload".to_owned());
    }
    Ok(())
}
