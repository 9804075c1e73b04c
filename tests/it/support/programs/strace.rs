//! A kernel that fails where it is told to: `strace` makes system calls of a running program fail.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::daemon::Daemon;
use super::{Larder, command, new_home};

/// Makes system calls of larder fail until it is dropped.
pub(crate) struct Failing {
    strace: Daemon,
}

impl Failing {
    /// Makes these calls (`fsync`, or `write,pwrite64`) fail with an error (`EIO`, or `EIO:when=1`
    /// for the first only) where they are about one of these paths, or about whatever, if there are
    /// none.
    pub(crate) async fn calls(larder: &Larder, calls: &str, error: &str, paths: &[&Path]) -> Self {
        let home = new_home("strace");
        let mut strace = command("strace", home.path());
        strace
            .args(["-f", "-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:error={error}")]);
        for path in paths {
            strace.arg("-P").arg(path);
        }
        strace.args(["-p", &larder.pid().to_string()]);
        let strace = Daemon::start("strace", strace, home);
        // It says so when it has all threads.
        strace
            .ready(|line| line.contains("attached").then_some(()))
            .await;
        Self { strace }
    }

    /// How many calls were made to fail.
    pub(crate) fn failed(&self) -> usize {
        self.strace.written().matches("(INJECTED)").count()
    }

    /// Lets go of larder.
    pub(crate) async fn end(mut self) {
        self.strace.signal(Signal::INT);
        self.strace.ended(Duration::from_secs(15)).await;
    }
}
