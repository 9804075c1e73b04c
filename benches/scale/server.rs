//! The release binary on a store, seen from outside.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A running larder.
pub(crate) struct Server {
    child: Child,
    address: String,
    home: TempDir,
}

impl Server {
    /// Starts it, and waits until it listens.
    pub(crate) async fn start(root: &Path, keys: &[&str]) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let (config, log) = (home.path().join("config.yml"), home.path().join("log"));
        let root = root.join("root");
        let text = format!(
            "version: 0.1\nlog: {{accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\nupstreams: {{docker.io: {{url: 'http://127.0.0.1:9'}}}}\ncache: {{maxsize: 1TB, minfree: '0', offline: true}}\n{}\n",
            root.display(),
            keys.join("\n")
        );
        fs::write(&config, text).expect("a file");
        let written = fs::File::create(&log).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
        command.arg("serve").arg(&config).stdin(Stdio::null());
        command
            .stdout(written.try_clone().expect("a file"))
            .stderr(written);
        let child = command.spawn().expect("larder starts");
        let address = loop {
            let text = fs::read_to_string(&log).expect("a log");
            let line = text
                .lines()
                .find_map(|line| line.split_once("listening on http://"));
            if let Some((_, address)) = line {
                break address.trim().to_owned();
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
        };
        Self {
            child,
            address,
            home,
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Waits until it has said so.
    pub(crate) async fn says(&self, text: &str) {
        while !self.log().contains(text) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Has it read its configuration again, with another bound for its cache.
    pub(crate) fn limit_to(&mut self, size: &str) {
        let path = self.home.path().join("config.yml");
        let text = fs::read_to_string(&path).expect("a file");
        fs::write(
            &path,
            text.replace("maxsize: 1TB", &format!("maxsize: {size}")),
        )
        .expect("a file");
        let id = self.child.id().try_into().ok().and_then(Pid::from_raw);
        kill_process(id.expect("a process"), Signal::HUP).expect("a running process");
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).expect("a log")
    }

    /// What it uses now, and the most that it ever used.
    pub(crate) fn memory(&self) -> String {
        let status = self.proc("status");
        let of = |what: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(what));
            let kib: u64 = line
                .and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
                .expect("a number");
            kib * 1024 / 100_000
        };
        let [now, most] = [of("VmRSS:"), of("VmHWM:")];
        format!(
            "memory {}.{} MB, at most {}.{} MB",
            now / 10,
            now % 10,
            most / 10,
            most % 10
        )
    }

    /// The processors' time that it has used, in seconds.
    pub(crate) fn cpu(&self) -> f64 {
        let stat = self.proc("stat");
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
        (ticks(11) + ticks(12)) / 100.0
    }

    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(path).expect("a running process")
    }

    /// Ends it at once: how it stops is not measured.
    pub(crate) fn stop(mut self) {
        self.child.kill().expect("a running process");
        self.child.wait().expect("an end");
    }
}
