//! `larder config`: what is in force.

use std::io::Write as _;

use crate::config::DEFAULT_YAML;

use super::{ConfigFile, printed, say};

/// Prints the configuration. Without a file and without overriding variables that is the built-in
/// one with its comments, to start a file of one's own from.
pub(super) fn run(file: &ConfigFile) -> Result<(), String> {
    let config = file.load()?;
    for warning in &config.warnings {
        say(&warning.to_string());
    }
    let overridden = std::env::vars_os().any(|(name, _)| {
        name.to_str()
            .is_some_and(|name| name.starts_with("REGISTRY_"))
    });
    let text = if file.path().is_none() && !overridden {
        DEFAULT_YAML.to_owned()
    } else {
        config.to_yaml()
    };
    let mut out = std::io::stdout();
    printed(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}
