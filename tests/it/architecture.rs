//! The house: arrows point one way. Reads the imports, and fails when one is wrong.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::tree::files;

/// Which top-level modules each may name.
const ARROWS: &[(&str, &[&str])] = &[
    ("access", &["oci"]),
    ("acme", &["outbound", "store"]),
    ("bundle", &["oci", "registry", "store"]),
    (
        "console",
        &["metrics", "oci", "registry", "store", "upstream"],
    ),
    ("metrics", &[]),
    ("oci", &[]),
    ("outbound", &[]),
    ("store", &["oci"]),
    ("traces", &[]),
    ("upstream", &["metrics", "oci", "outbound", "traces"]),
    (
        "registry",
        &["metrics", "oci", "store", "traces", "upstream"],
    ),
    ("events", &["oci", "outbound"]),
    ("health", &["outbound"]),
    (
        "http",
        &[
            "access", "console", "metrics", "oci", "registry", "store", "traces", "upstream",
            "events", "health",
        ],
    ),
    ("config", &["oci"]),
    ("setup", &[]),
    (
        "cli",
        &[
            "access", "acme", "bundle", "config", "http", "oci", "registry", "store", "upstream",
            "events", "health", "setup", "traces", "console",
        ],
    ),
];

/// Crates that only some modules may name, with the reason.
const CRATES: &[(&str, &[&str], &str)] = &[
    (
        "reqwest",
        &["acme", "upstream", "outbound", "events", "health"],
        "the client's types stay with the clients",
    ),
    (
        "hyper",
        &["http"],
        "the server's types stay with the server",
    ),
    (
        "http",
        &["acme", "http", "upstream"],
        "statuses and headers are the wire's",
    ),
    (
        "tokio",
        &[
            "access", "acme", "upstream", "registry", "events", "health", "console", "http", "cli",
        ],
        "the pure and the synchronous stay so",
    ),
    ("bcrypt", &["access"], "passwords are its business alone"),
    (
        "saphyr",
        &["config", "setup"],
        "YAML is the configuration's, and that of clients",
    ),
    ("toml_edit", &["setup"], "TOML is the clients'"),
    ("similar", &["cli"], "differences are shown by commands"),
    ("clap", &["cli"], "arguments are the command line's"),
    (
        "prometheus_client",
        &["metrics"],
        "whoever counts says what happened, and no more",
    ),
    ("opentelemetry", &["traces"], "spans are its business alone"),
    ("tar", &["bundle"], "only bundles are archives"),
    (
        "listenfd",
        &["cli"],
        "the environment is the command line's",
    ),
    ("indicatif", &["cli"], "only a terminal has progress bars"),
];

/// The longest that a file's code may be, tests, comments and blank lines left out.
const LONGEST: usize = 400;

fn sources() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let sources = files(&src)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "rs"));
    sources
        .map(|path| {
            let inner = path.strip_prefix(&src).unwrap();
            let module = inner
                .components()
                .next()
                .unwrap()
                .as_os_str()
                .to_string_lossy();
            let module = module.trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
            (module, path, code)
        })
        .collect()
}

fn is_code(line: &&str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with("//")
}

#[test]
fn arrows_point_one_way() {
    for (module, path, code) in sources() {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == module) else {
            continue;
        };
        for line in code.lines().filter(is_code) {
            for (_, rest) in line
                .match_indices("crate::")
                .map(|(at, found)| line.split_at(at + found.len()))
            {
                let named: String = rest
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let fits = named == module || allowed.contains(&named.as_str());
                assert!(
                    fits || named.is_empty(),
                    "{} names crate::{named}: {line}",
                    path.display()
                );
                assert!(
                    !named.is_empty(),
                    "{}: write one import a line, not {line}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn every_module_has_its_arrows() {
    for (module, path, _) in sources() {
        let known = ARROWS.iter().any(|(name, _)| *name == module);
        assert!(
            known || ["main", "lib"].contains(&module.as_str()),
            "{} has no rule",
            path.display()
        );
    }
}

#[test]
fn libraries_stay_where_they_belong() {
    for (module, path, code) in sources() {
        for (library, allowed, reason) in CRATES {
            let named = code.lines().filter(is_code).any(|line| {
                line.trim_start().starts_with(&format!("use {library}::"))
                    || line.contains(&format!(" {library}::")) && !line.contains("crate::")
            });
            assert!(
                !named || allowed.contains(&module.as_str()),
                "{} names {library}: {reason}",
                path.display()
            );
        }
    }
}

#[test]
fn messages_do_not_guess_what_the_configuration_is_called() {
    for (module, path, code) in sources() {
        // These know its name, or show one in an example.
        let may = ["cli", "config"].contains(&module.as_str());
        let guess = code
            .lines()
            .filter(is_code)
            .find(|it| it.contains("config.yml"));
        assert!(may || guess.is_none(), "{}: {guess:?}", path.display());
    }
}

#[test]
fn files_are_short_enough_to_be_read() {
    for (_, path, code) in sources() {
        let lines = code.lines().filter(is_code).count();
        assert!(
            lines <= LONGEST,
            "{} has {lines} lines of code",
            path.display()
        );
    }
}
