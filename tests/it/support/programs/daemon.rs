//! A program that runs in the background, until the test or the whole test process ends.

use std::io::{BufRead as _, BufReader, PipeReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::timeout;

use super::find;

/// How long a daemon may take to be ready; with many at once on two cores it takes seconds.
const READY_LIMIT: Duration = Duration::from_mins(1);

/// How long it may take to end by itself.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// Waits for a word on its input. If the input ends without one, the test process is gone (it may
/// have been killed, so that no `Drop` ran), and the daemon and its directory have to go too.
const WATCHDOG: &str = r#"
read -r _ && exit
kill -TERM "$0"
for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$0" 2>/dev/null || break; sleep 0.5; done
kill -KILL "$0" 2>/dev/null
while read -r _ mount _; do
    case $mount in "$1"/*) umount --lazy "$mount" ;; esac
done < /proc/self/mounts
rm -rf --one-file-system "$1"
"#;

/// What the daemon wrote so far.
#[derive(Default)]
struct Log {
    text: String,
    ended: bool,
}

/// A running daemon with its directory. Dropping it ends it, and removes the directory.
pub(super) struct Daemon {
    name: &'static str,
    child: Child,
    watchdog: Child,
    log: watch::Receiver<Log>,
    home: TempDir,
}

impl Daemon {
    /// Starts it, and reads all that it writes from then on.
    pub(super) fn start(name: &'static str, mut command: Command, home: TempDir) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        // A group of its own, so that a Ctrl-C ends the test process first, and it ends the daemon.
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(writer.try_clone().expect("a second end of the pipe"))
            .stderr(writer)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        // The command holds the pipe's writing ends. Without them the pipe ends when the daemon
        // does.
        drop(command);
        let watchdog = Command::new(find("sh"))
            .arg("-c")
            .arg(WATCHDOG)
            .arg(child.id().to_string())
            .arg(home.path())
            .process_group(0)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start a watchdog for {name}: {error}"));
        let (sender, log) = watch::channel(Log::default());
        std::thread::spawn(move || collect(reader, &sender));
        Self {
            name,
            child,
            watchdog,
            log,
            home,
        }
    }

    /// Waits until the daemon has written a line in which `wanted` finds something.
    pub(super) async fn ready<T>(&self, wanted: impl Fn(&str) -> Option<T>) -> T {
        let mut log = self.log.clone();
        let find = |log: &Log| log.text.lines().find_map(&wanted);
        let written = timeout(
            READY_LIMIT,
            log.wait_for(|log| log.ended || find(log).is_some()),
        )
        .await;
        let found = written.ok().and_then(Result::ok).and_then(|log| find(&log));
        found.unwrap_or_else(|| {
            panic!(
                "{} did not get ready within {READY_LIMIT:?}\n{}",
                self.name,
                self.log()
            )
        })
    }

    /// Waits until everything that it wrote is as wanted.
    pub(super) async fn wrote(&self, is_wanted: impl Fn(&str) -> bool) {
        let mut log = self.log.clone();
        let written = log.wait_for(|log| log.ended || is_wanted(&log.text));
        let written = timeout(READY_LIMIT, written).await;
        assert!(
            written.is_ok_and(|log| log.is_ok_and(|log| is_wanted(&log.text))),
            "{} did not say what was waited for\n{}",
            self.name,
            self.log()
        );
    }

    /// Its own directory.
    pub(super) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, if it is still there.
    pub(super) fn signal(&mut self, signal: Signal) {
        if matches!(self.child.try_wait(), Ok(None)) {
            kill_process(Pid::from_child(&self.child), signal).expect("our own child");
        }
    }

    /// Waits until it has ended by itself or by a signal; a panic with its log after `limit`.
    pub(super) async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let mut log = self.log.clone();
        // Its end of the pipe closes with the process, so nothing needs to be asked repeatedly.
        let ended = timeout(limit, log.wait_for(|log| log.ended)).await.is_ok();
        assert!(
            ended,
            "{} has not ended after {limit:?}\n{}",
            self.name,
            self.log()
        );
        self.child.wait().expect("our own child")
    }

    /// Everything it wrote so far.
    pub(super) fn written(&self) -> String {
        self.log.borrow().text.clone()
    }

    /// The same with a heading, for messages.
    pub(super) fn log(&self) -> String {
        format!("--- log of {}\n{}", self.name, self.written())
    }

    fn stop(&mut self) {
        // The word for the watchdog: there is nothing left to watch.
        _ = self
            .watchdog
            .stdin
            .take()
            .map(|mut input| input.write_all(b"\n"));
        _ = self.watchdog.wait();
        // Once it has been waited for, its number may belong to another process.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if asked.elapsed() > STOP_LIMIT {
                _ = self.child.kill();
                _ = self.child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it left mounted would keep its directory from being removed; the innermost goes first.
    fn unmount(&self) {
        let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mounts = table
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .map(PathBuf::from);
        for mount in mounts
            .filter(|mount| mount.starts_with(self.home.path()))
            .collect::<Vec<_>>()
            .iter()
            .rev()
        {
            _ = Command::new(find("umount"))
                .arg("--lazy")
                .arg(mount)
                .status();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
        self.unmount();
    }
}

fn collect(reader: PipeReader, log: &watch::Sender<Log>) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader
        .read_until(b'\n', &mut line)
        .is_ok_and(|length| length > 0)
    {
        log.send_modify(|log| log.text += &String::from_utf8_lossy(&line));
        line.clear();
    }
    log.send_modify(|log| log.ended = true);
}
