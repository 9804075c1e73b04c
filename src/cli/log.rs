//! The log: its level, its form, and the fields that every line has.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Stderr, Write};

use serde_json::Value;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Level, Log, LogFormat};

/// What a JSON line has itself. A static field of that name gets `fields.` before it, as in logrus.
const TAKEN: [&str; 6] = ["timestamp", "level", "fields", "target", "span", "spans"];

/// Our own lines at the configured level; those of the libraries only from warnings up. Every line
/// ends with `fields`: `log.fields` of the configuration.
pub(super) fn start(log: &Log, fields: &[(String, String)]) {
    let level = match log.level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("larder", level);
    let ending = match log.format {
        LogFormat::Text => Ending::text(fields),
        LogFormat::Json => Ending::json(fields),
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(ending)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    let registry = tracing_subscriber::registry().with(targets);
    // A second initialisation cannot be: this is the only one.
    let _ = match log.format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json()).try_init(),
    };
}

/// Standard error, with something more at the end of each line. Lines come whole, each in one
/// write.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ending {
    /// What a line ends with by itself.
    usual: &'static str,
    /// What it ends with instead.
    ours: String,
}

impl Ending {
    fn text(fields: &[(String, String)]) -> Self {
        let mut ours = String::new();
        for (name, value) in fields {
            // Quoted and escaped, as the values of a line are. Text takes in everything.
            let _ = write!(ours, " {name}={value:?}");
        }
        ours.push('\n');
        Self { usual: "\n", ours }
    }

    fn json(fields: &[(String, String)]) -> Self {
        let mut ours = String::new();
        for (name, value) in fields {
            let prefix = if TAKEN.contains(&name.as_str()) {
                "fields."
            } else {
                ""
            };
            let name = Value::from(format!("{prefix}{name}"));
            // Cannot fail.
            let _ = write!(ours, ",{name}:{}", Value::from(value.as_str()));
        }
        ours.push_str("}\n");
        Self { usual: "}\n", ours }
    }

    fn end(&self, line: &[u8]) -> Vec<u8> {
        match line.strip_suffix(self.usual.as_bytes()) {
            Some(line) => [line, self.ours.as_bytes()].concat(),
            None => line.to_vec(),
        }
    }
}

/// One line on its way out.
struct Line<'a> {
    ending: &'a Ending,
    stderr: Stderr,
}

impl<'a> MakeWriter<'a> for Ending {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            ending: self,
            stderr: io::stderr(),
        }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.ending.usual == self.ending.ours {
            return self.stderr.write(line);
        }
        self.stderr.write_all(&self.ending.end(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stderr.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Vec<(String, String)> {
        [("service", "reg\"istry\n"), ("level", "7")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    }

    #[test]
    fn static_fields_are_at_the_end_of_each_line() {
        let line = Ending::text(&fields()).end(b"INFO answered status=200\n");
        let expected = "INFO answered status=200 service=\"reg\\\"istry\\n\" level=\"7\"\n";
        assert_eq!(String::from_utf8(line).unwrap(), expected);
        let line = Ending::json(&fields()).end(b"{\"level\":\"INFO\",\"fields\":{}}\n");
        let line: Value = serde_json::from_slice(&line).unwrap();
        let expected = serde_json::json!({
            "level": "INFO", "fields": {}, "service": "reg\"istry\n", "fields.level": "7",
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn without_fields_a_line_is_what_it_was() {
        for ending in [Ending::text(&[]), Ending::json(&[])] {
            assert_eq!(ending.usual, ending.ours);
        }
    }
}
