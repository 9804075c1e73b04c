//! How a text goes into a file that is there already: it is added to, and nothing else of it changes.

mod cri;
mod daemon;
mod toml;
mod yaml;

/// What a file is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    Daemon(Daemon),
    Hosts(Hosts),
    Cri(Cri),
    Registries(Registries),
    Buildkitd(Buildkitd),
    Yaml(Yaml),
    /// A certificate, beside those that are there.
    Pem,
}

/// Of dockerd's daemon.json.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Daemon {
    /// An address of `registry-mirrors`.
    pub(super) mirror: Option<String>,
    /// A name of `insecure-registries`.
    pub(super) insecure: Option<String>,
}

/// Of containerd's hosts.toml for one registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hosts {
    /// The registry itself; another that is there stays.
    pub(super) server: String,
    pub(super) url: String,
    pub(super) ca: Option<String>,
}

/// Of containerd's config.toml.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cri {
    /// Where the hosts.toml files are.
    pub(super) directory: String,
}

/// Of containers-registries.conf(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registries(pub(super) Vec<Registry>);

/// One registry of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registry {
    pub(super) location: String,
    /// Where it is mirrored; `None`: this is about the registry itself.
    pub(super) mirror: Option<String>,
    /// Of the mirror, or else of the registry itself: whether it speaks plain HTTP.
    pub(super) insecure: bool,
}

/// Of buildkitd.toml.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Buildkitd {
    /// Registries and their mirrors.
    pub(super) mirrors: Vec<(String, String)>,
    /// How larder itself is called.
    pub(super) own: String,
    pub(super) http: bool,
    pub(super) ca: Option<String>,
}

/// Of a YAML file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Yaml(pub(super) Vec<YamlWish>);

/// One thing that a YAML file is to say, by the keys that lead to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum YamlWish {
    /// A list has this text, before what it had.
    First(Vec<String>, String),
    /// The value is this text.
    Is(Vec<String>, String),
}

/// Why a file stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// It is not what it should be.
    #[error("{line}:{column}: {problem}")]
    Unreadable {
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
        /// What is wrong.
        problem: String,
    },
    /// It can be read, but this cannot be added without changing something else.
    #[error("{problem}. Add this yourself:\n\n{add}")]
    Conflict {
        /// What is in the way.
        problem: String,
        /// What is to be added.
        add: String,
    },
}

impl MergeError {
    fn conflict(problem: impl Into<String>, add: &str) -> Self {
        Self::Conflict {
            problem: problem.into(),
            add: add.trim_end().to_owned(),
        }
    }

    /// At a byte of the text.
    fn at(text: &str, offset: usize, problem: impl Into<String>) -> Self {
        let before = text.get(..offset.min(text.len())).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self::Unreadable {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            problem: problem.into(),
        }
    }
}

impl Wants {
    pub(super) fn merged(&self, before: &str, text: &str) -> Result<String, MergeError> {
        match self {
            Self::Daemon(daemon) => daemon.merged(before, text),
            Self::Hosts(hosts) => hosts.merged(before),
            Self::Cri(cri) => cri.merged(before),
            Self::Registries(registries) => registries.merged(before),
            Self::Buildkitd(buildkitd) => buildkitd.merged(before),
            Self::Yaml(yaml) => yaml.merged(before, text),
            Self::Pem => Ok(with_certificate(before, text)),
        }
    }
}

fn with_certificate(before: &str, certificate: &str) -> String {
    if before.contains(certificate.trim()) {
        return before.to_owned();
    }
    format!("{}\n{certificate}", before.trim_end())
}

/// The text with a block after its end.
fn with_block(before: &str, block: &str) -> String {
    let end = if before.ends_with('\n') { "" } else { "\n" };
    let gap = if before.trim().is_empty() { "" } else { "\n" };
    format!("{before}{end}{gap}{block}")
}
