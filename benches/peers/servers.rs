//! The three servers, each with a configuration in which it does nothing that the others do not.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::content::Content;
use super::machine::{anonymous, resident, used_by};

/// What [`Server::all`] starts, in that order.
pub(crate) const NAMES: [&str; 3] = ["nginx", "larder", "docker-registry"];

/// Whether a server speaks TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tls {
    Off,
    On,
}

/// A server; it ends with this.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: SocketAddr,
    tls: Tls,
}

impl Server {
    /// One of each, with the same content.
    pub(crate) fn all(content: &Content, tls: Tls) -> [Self; 3] {
        [
            Self::nginx(content, tls),
            Self::larder(content, tls),
            Self::distribution(content, tls),
        ]
    }

    /// nginx with `sendfile` and its cache of open files, no log, and a worker per processor.
    pub(crate) fn nginx(content: &Content, tls: Tls) -> Self {
        let home = content.root(&unique("nginx"));
        fs::create_dir_all(&home).expect("a directory");
        let address = free_address();
        let listen = match tls {
            Tls::On => format!(
                "listen {address} ssl; ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3;",
                content.pair.certificate().display(),
                content.pair.key().display()
            ),
            Tls::Off => format!("listen {address};"),
        };
        // As root it would read the files as somebody who may not.
        let user = if rustix::process::geteuid().is_root() {
            "user root;"
        } else {
            ""
        };
        let text = format!(
            "daemon off; worker_processes auto; pid {home}/pid; error_log {home}/error.log; {user}\n\
             worker_rlimit_nofile 8192; events {{ worker_connections 4096; }}\n\
             http {{\n\
             access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; default_type application/octet-stream;\n\
             open_file_cache max=1000; open_file_cache_valid 60s; open_file_cache_min_uses 1;\n\
             client_body_temp_path {home}/b; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;\n\
             server {{ {listen} location = /v2/ {{ return 200; }} location / {{ root {files}; }} }}\n\
             }}\n",
            home = home.display(),
            files = content.root("files").display(),
        );
        let file = home.join("nginx.conf");
        fs::write(&file, text).expect("a configuration");
        let mut command = program("nginx");
        command.arg("-p").arg(&home).arg("-c").arg(&file);
        Self::start(command, address, tls)
    }

    /// larder as a plain registry that logs what goes wrong.
    pub(crate) fn larder(content: &Content, tls: Tls) -> Self {
        let tree = content.tree(&unique("larder"));
        let (file, address) = configuration(&tree, &certificate(content, tls), "");
        let mut command = program(&larder());
        command.arg("serve").arg(file);
        Self::start(command, address, tls)
    }

    /// The same on another directory, with more in its configuration.
    pub(crate) fn larder_on(tree: &Path, more: &str) -> Self {
        let (file, address) = configuration(tree, "", more);
        let mut command = program(&larder());
        command.arg("serve").arg(file);
        Self::start(command, address, Tls::Off)
    }

    /// larder in another program that watches it.
    pub(crate) fn larder_in(mut watcher: Command, content: &Content) -> Self {
        let tree = content.tree(&unique("larder"));
        let (file, address) = configuration(&tree, "", "");
        watcher.arg(larder()).arg("serve").arg(file);
        Self::start(watcher, address, Tls::Off)
    }

    /// Debian's registry, likewise.
    pub(crate) fn distribution(content: &Content, tls: Tls) -> Self {
        let tree = content.tree(&unique("registry"));
        let (file, address) = configuration(&tree, &certificate(content, tls), "");
        let mut command = program("docker-registry");
        command.arg("serve").arg(file);
        Self::start(command, address, tls)
    }

    /// The same on another directory.
    pub(crate) fn distribution_on(tree: &Path, more: &str) -> Self {
        let (file, address) = configuration(tree, "", more);
        let mut command = program("docker-registry");
        command.arg("serve").arg(file);
        Self::start(command, address, Tls::Off)
    }

    fn start(mut command: Command, address: SocketAddr, tls: Tls) -> Self {
        let quiet = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = quiet.spawn().expect("a server that starts");
        let mut server = Self {
            process,
            address,
            tls,
        };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = server.process.try_wait().expect("a process");
            assert!(
                ended.is_none() && started.elapsed() < Duration::from_mins(1),
                "{command:?} does not listen"
            );
            sleep(Duration::from_millis(5));
        }
        server
    }

    /// Whether it speaks TLS.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.tls == Tls::On
    }

    /// The processor time that it has used, its workers included, in seconds.
    pub(crate) fn processor(&self) -> f64 {
        let workers = self.workers().into_iter().map(used_by);
        used_by(self.process.id()) + workers.sum::<f64>()
    }

    /// Waits until it has nothing to do.
    pub(crate) fn settle(&self) {
        let started = Instant::now();
        loop {
            let before = self.processor();
            sleep(Duration::from_millis(300));
            let is_idle = self.processor() - before < 0.015;
            if is_idle || started.elapsed() > Duration::from_secs(20) {
                return;
            }
        }
    }

    /// The memory that is in use, in MB; the pages of the program count once.
    pub(crate) fn memory(&self) -> f64 {
        let workers = self.workers().into_iter().map(anonymous);
        resident(self.process.id()) + workers.sum::<f64>()
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn finish(self) {
        drop(self);
    }

    fn workers(&self) -> Vec<u32> {
        let main = self.process.id();
        let children = fs::read_to_string(format!("/proc/{main}/task/{main}/children"));
        let children = children.expect("its children");
        let pids = children.split_whitespace().map(str::parse);
        pids.map(|pid| pid.expect("a process")).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // nginx takes its workers with it only if it is asked to.
        let pid = rustix::process::Pid::from_child(&self.process);
        // It may have ended by itself.
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        let asked = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) {
            if asked.elapsed() > Duration::from_secs(30) {
                drop(self.process.kill());
            }
            sleep(Duration::from_millis(5));
        }
    }
}

/// Which larder is measured: the one of this build, or another to compare it with.
fn larder() -> String {
    std::env::var("LARDER").unwrap_or_else(|_| env!("CARGO_BIN_EXE_larder").to_owned())
}

/// A program that ends with us, however we end.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--", name]);
    command
}

/// A name that nothing had yet.
fn unique(name: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A `config.yml` that both registries read.
fn configuration(tree: &Path, tls: &str, more: &str) -> (PathBuf, SocketAddr) {
    let address = free_address();
    let text = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"{tls}}}\n{more}",
        tree.display()
    );
    let file = tree.with_extension("yml");
    fs::write(&file, text).expect("a configuration");
    (file, address)
}

fn certificate(content: &Content, tls: Tls) -> String {
    if tls == Tls::Off {
        return String::new();
    }
    let (certificate, key) = (content.pair.certificate(), content.pair.key());
    format!(
        ", tls: {{certificate: \"{}\", key: \"{}\"}}",
        certificate.display(),
        key.display()
    )
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address")
}
