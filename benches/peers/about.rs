//! Where and when it was measured, and what.

use std::fs;
use std::process::Command;
use std::thread::available_parallelism;
use std::time::SystemTime;

/// A paragraph about it.
pub(crate) fn text(rounds: usize) -> String {
    let processors = available_parallelism().map_or(0, usize::from);
    let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let date = date.split('T').next().unwrap_or_default();
    format!(
        "Measured on {date}, {rounds} rounds, on {processors} processors ({}), Linux {}. \
         larder {} ({}), {}, docker-registry {}, wrk {}.",
        processor(),
        fs::read_to_string("/proc/sys/kernel/osrelease")
            .map_or_else(|_| "?".to_owned(), |text| text.trim().to_owned()),
        env!("CARGO_PKG_VERSION"),
        said("git", &["describe", "--always", "--dirty"], 0),
        said("nginx", &["-v"], 2),
        said("docker-registry", &["--version"], 2),
        said("wrk", &["-v"], 1),
    )
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    };
    let flags = field("flags");
    let has = |flag: &str| flags.split_whitespace().any(|word| word == flag);
    let hash = if has("sha_ni") {
        "with SHA instructions"
    } else {
        "without SHA instructions"
    };
    format!("{}, {hash}", field("model name"))
}

/// The `at`th word of what a program says, wherever it says it.
fn said(program: &str, arguments: &[&str], at: usize) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else {
        return "?".to_owned();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let word = text.split_whitespace().nth(at);
    word.unwrap_or("?").to_owned()
}
