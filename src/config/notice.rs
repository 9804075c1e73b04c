//! What the reader of a configuration has to say: one error, or any number of warnings.
//!
//! Both are text for the person who wrote the file, so both begin with the place to look at. Nobody
//! branches on what went wrong: a configuration either loads or the program does not start.

use std::cell::RefCell;
use std::fmt;

use super::Level;
use super::source::Origin;

/// Why a configuration was refused, as one line: the place, the key, the problem, and what to write
/// instead. Never contains a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    /// A problem with the value of one key, or with the file as a whole when `key` is empty.
    pub(super) fn new(at: &Origin, key: &str, problem: impl fmt::Display) -> Self {
        Self(one_line(if key.is_empty() {
            format!("{at}: {problem}")
        } else {
            format!("{at}: {key}: {problem}")
        }))
    }
}

/// Something in the configuration that does not do what its author may expect. The server runs all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// `Info` when nothing is lost (a setting larder has no need of), `Warn` when something asked for does not happen.
    pub level: Level,
    /// Where it stands: `config.yml:12`, or the name of an environment variable.
    pub at: String,
    /// What it is, naming the key: `unknown key http.foo: ignored`.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.text)
    }
}

/// Collects warnings while sections of the file are being read, in any order.
#[derive(Debug, Default)]
pub(super) struct Notes(RefCell<Vec<(Origin, Warning)>>);

impl Notes {
    pub(super) fn add(&self, level: Level, at: &Origin, text: impl fmt::Display) {
        let warning = Warning {
            level,
            at: at.to_string(),
            text: one_line(text.to_string()),
        };
        self.0.borrow_mut().push((at.clone(), warning));
    }

    /// All of them, in the order of the file, those of the environment last.
    pub(super) fn into_warnings(self) -> Vec<Warning> {
        let mut all = self.0.into_inner();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all.into_iter().map(|(_, warning)| warning).collect()
    }
}

/// A key may be any text, and a message must not look like two.
fn one_line(text: String) -> String {
    if text.contains(char::is_control) {
        text.replace(char::is_control, " ")
    } else {
        text
    }
}
