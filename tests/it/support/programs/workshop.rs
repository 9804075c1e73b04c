//! A directory to build and try packages in, and programs of any kind that run there.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::daemon::Daemon;
use super::larder::listening_on;
use super::{Output, containers_command, new_home, run};

const STOP_LIMIT: Duration = Duration::from_secs(45);

/// A directory of its own, and commands that see nothing of the machine's configuration.
pub(crate) struct Workshop {
    home: TempDir,
}

/// A program that runs until it is told to stop, or dropped.
pub(crate) struct Running {
    daemon: Daemon,
}

impl Workshop {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self {
            home: new_home("workshop"),
        }
    }

    /// A place in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A program, by its name or its path, that is not started yet.
    pub(crate) fn command(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Command {
        let program = program.as_ref().to_str().expect("a plain name");
        let mut command = containers_command(program, self.home.path());
        // larder would take it for one of its own.
        command.env_remove("REGISTRY_AUTH_FILE").args(arguments);
        command
    }

    /// A program, run to its end.
    pub(crate) async fn run(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Output {
        self.finish(self.command(program, arguments)).await
    }

    /// A command, run to its end.
    pub(crate) async fn finish(&self, command: Command) -> Output {
        run(command, b"").await
    }

    /// The program under test, without what only debuggers read: a tenth of its size.
    pub(crate) async fn stripped_larder(&self) -> PathBuf {
        let program = self.path("larder");
        let to = program.to_str().expect("a plain name");
        let from = env!("CARGO_BIN_EXE_larder");
        let stripped = self.run("strip", &["-s", "-o", to, from]).await;
        stripped.expect_success();
        program
    }
}

impl Running {
    /// Starts it.
    pub(crate) fn start(name: &'static str, command: Command) -> Self {
        let daemon = Daemon::start(name, command, new_home(name));
        Self { daemon }
    }

    /// Waits until it says where it listens: host and port.
    pub(crate) async fn address(&self) -> String {
        self.daemon.ready(listening_on).await
    }

    /// Everything that it wrote.
    pub(crate) fn log(&self) -> String {
        self.daemon.written()
    }

    /// Waits until it has written a line with this text.
    pub(crate) async fn logged(&self, text: &str) {
        let has = |line: &str| line.contains(text).then_some(());
        self.daemon.ready(has).await;
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        self.daemon.ended(STOP_LIMIT).await
    }

    /// Sends it a signal.
    pub(crate) fn signal(&mut self, signal: Signal) {
        self.daemon.signal(signal);
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.daemon.signal(Signal::TERM);
        self.daemon.ended(STOP_LIMIT).await
    }
}
