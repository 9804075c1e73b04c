//! A machine of its own, on which systemd runs the services.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixDatagram;

use super::workshop::{Running, Workshop};
use super::{Output, run};

/// The first process sets up the rest.
const SCRIPT: &str = include_str!("machine.sh");

/// What it boots into: nothing but the journal.
const TARGET: &str =
    "[Unit]\nWants=systemd-journald.service\nAfter=systemd-journald.service\nAllowIsolate=yes\n";

const BOOT_LIMIT: Duration = Duration::from_secs(30);

/// It sees the files of this one; what it changes is gone with it. Its network is a loopback.
pub(crate) struct Machine {
    boot: Option<Running>,
    process: String,
    shop: Workshop,
}

impl Machine {
    /// Boots one on which `prepare` has put files: it is given the place of its root.
    pub(crate) async fn boot(prepare: impl FnOnce(&Path)) -> Self {
        let shop = Workshop::new();
        for directory in ["files/etc/systemd/system", "layer"] {
            fs::create_dir_all(shop.path(directory)).expect("a directory");
        }
        let files = shop.path("files");
        fs::write(files.join("etc/systemd/system/machine.target"), TARGET).expect("a file");
        prepare(&files);
        fs::write(shop.path("machine.sh"), SCRIPT).expect("a file");
        let notify = UnixDatagram::bind(shop.path("notify")).expect("a socket");
        let mut boot = Command::new("sh");
        boot.arg(shop.path("machine.sh")).arg(shop.path(""));
        let boot = Running::start("machine", boot);
        boot.logged("booting as ").await;
        let log = boot.log();
        let process = log
            .lines()
            .find_map(|line| line.strip_prefix("booting as "));
        let machine = Self {
            process: process.expect("a process").to_owned(),
            boot: Some(boot),
            shop,
        };
        machine.is_up(&notify).await;
        machine
    }

    /// systemd says so when it has booted, as it does to whoever runs a container.
    async fn is_up(&self, notify: &UnixDatagram) {
        let told = async {
            let mut buffer = [0; 4096];
            loop {
                let length = notify.recv(&mut buffer).await.expect("a word");
                if buffer[..length].starts_with(b"READY=1") {
                    return;
                }
            }
        };
        let told = tokio::time::timeout(BOOT_LIMIT, told).await;
        let log = self.boot.as_ref().map(Running::log);
        assert!(told.is_ok(), "it does not boot: {log:?}");
    }

    /// A command line, as root types it there, on a terminal.
    pub(crate) async fn run(&self, line: &str) -> Output {
        let mut enter = Command::new("nsenter");
        enter.args(["--target", &self.process, "--all", "--root", "--wd"]);
        enter.args(["env", "-i", "HOME=/root", "TERM=dumb", "LC_ALL=C.UTF-8"]);
        enter.args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_PAGER=cat"]);
        enter.args(["script", "--quiet", "--return", "--command", line]);
        enter.arg("/dev/null");
        run(enter, b"").await
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // With its first process all others end, and then who waits for it.
        if let Some(first) = self.process.parse().ok().and_then(Pid::from_raw) {
            _ = kill_process(first, Signal::KILL);
        }
        drop(self.boot.take());
        let Ok(group) = fs::read_to_string(self.shop.path("group")) else {
            return;
        };
        // What is left of their groups is empty directories, once they are gone.
        let tidy = "while find \"$0\" -depth -type d -exec rmdir {} + ; test -d \"$0\"; do sleep 0.02; done";
        let tidied = Command::new("timeout")
            .args(["10", "sh", "-c", tidy, group.trim()])
            .output();
        drop(tidied);
    }
}
