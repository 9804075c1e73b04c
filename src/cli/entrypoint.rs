//! In the place of the script that Distribution's images start with.
//!
//! `/entrypoint.sh` runs `registry serve` where it is given a configuration, `registry` where it is
//! given one of the registry's commands or options, and anything else as it is. larder's image has
//! no shell; there, `/entrypoint.sh` is larder.

use std::ffi::OsString;

use super::{DISTRIBUTION, file_name};

/// The script's name.
const SCRIPT: &str = "entrypoint.sh";

/// What it passes on to `registry`. What ends in `.yml` or begins with `-` is passed on, too.
const COMMANDS: [&str; 3] = ["serve", "garbage-collect", "help"];

/// The program's name and its arguments as they are meant, whoever was called.
pub(super) fn as_meant(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let is_script = |name: &OsString| file_name(name) == SCRIPT;
    if !arguments.first().is_some_and(is_script) {
        return arguments;
    }
    let Some(first) = arguments.get(1) else {
        return vec!["larder".into()];
    };
    let program = file_name(first);
    if program == "larder" || DISTRIBUTION.contains(&program) {
        arguments.remove(0);
        return arguments;
    }
    let first = first.to_string_lossy();
    let is_registrys = COMMANDS.contains(&&*first)
        || [".yml", ".yaml"].iter().any(|end| first.ends_with(end))
        || first.starts_with('-');
    let name = if is_registrys { "registry" } else { "larder" };
    if let Some(place) = arguments.first_mut() {
        *place = name.into();
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_started_as_distributions_is() {
        let table = [
            ("/entrypoint.sh /etc/x.yml", "registry /etc/x.yml"),
            ("/entrypoint.sh serve x.yaml", "registry serve x.yaml"),
            (
                "/entrypoint.sh garbage-collect -m x.yml",
                "registry garbage-collect -m x.yml",
            ),
            ("/entrypoint.sh --version", "registry --version"),
            (
                "/entrypoint.sh /bin/registry serve x.yml",
                "/bin/registry serve x.yml",
            ),
            ("/entrypoint.sh registry help", "registry help"),
            ("/entrypoint.sh larder ls", "larder ls"),
            ("/entrypoint.sh warm nginx", "larder warm nginx"),
            ("/entrypoint.sh", "larder"),
            ("larder serve registry", "larder serve registry"),
            ("", ""),
        ];
        for (given, meant) in table {
            let words = |text: &str| text.split_whitespace().map(OsString::from).collect();
            let expected: Vec<OsString> = words(meant);
            assert_eq!(as_meant(words(given)), expected, "{given}");
        }
    }
}
