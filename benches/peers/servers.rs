//! The three servers, each with a configuration in which it does nothing that the others do not.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::content::Content;

/// A server; it ends with this.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// nginx with `sendfile` and its cache of open files, no log, and two workers.
    pub(crate) fn nginx(content: &Content, is_encrypted: bool) -> Self {
        let home = content.root(if is_encrypted { "nginx-tls" } else { "nginx" });
        fs::create_dir_all(&home).expect("a directory");
        let address = free_address();
        let listen = if is_encrypted {
            format!(
                "listen {address} ssl; ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3;",
                content.pair.certificate().display(),
                content.pair.key().display()
            )
        } else {
            format!("listen {address};")
        };
        let text = format!(
            "daemon off; worker_processes 2; pid {home}/pid; error_log {home}/error.log; user root;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n\
             access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; default_type application/octet-stream;\n\
             open_file_cache max=1000; open_file_cache_valid 60s; open_file_cache_min_uses 1;\n\
             client_body_temp_path {home}/b; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;\n\
             server {{ {listen} location / {{ root {files}; }} }}\n\
             }}\n",
            home = home.display(),
            files = content.root("files").display(),
        );
        let file = home.join("nginx.conf");
        fs::write(&file, text).expect("a configuration");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&home).arg("-c").arg(&file);
        Self::start(command, address)
    }

    /// larder as a plain registry that logs what goes wrong.
    pub(crate) fn larder(content: &Content, is_encrypted: bool) -> Self {
        let tree = content.tree(if is_encrypted { "larder-tls" } else { "larder" });
        Self::larder_on(&tree, &tls(content, is_encrypted))
    }

    /// The same on another directory, with more in its `http` section.
    pub(crate) fn larder_on(tree: &Path, tls: &str) -> Self {
        let (file, address) = configuration(tree, tls);
        let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
        command.arg("serve").arg(file);
        Self::start(command, address)
    }

    /// Debian's registry, likewise.
    pub(crate) fn distribution(content: &Content, is_encrypted: bool) -> Self {
        let tree = content.tree(if is_encrypted {
            "registry-tls"
        } else {
            "registry"
        });
        Self::distribution_on(&tree, &tls(content, is_encrypted))
    }

    /// The same on another directory.
    pub(crate) fn distribution_on(tree: &Path, tls: &str) -> Self {
        let (file, address) = configuration(tree, tls);
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(file);
        Self::start(command, address)
    }

    fn start(mut command: Command, address: SocketAddr) -> Self {
        let quiet = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = quiet.spawn().expect("a server that starts");
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "a server that listens"
            );
            sleep(Duration::from_millis(5));
        }
        Self { process, address }
    }

    /// The processor time that it has used, its workers included, in seconds.
    pub(crate) fn processor(&self) -> f64 {
        let main = self.process.id();
        let children = fs::read_to_string(format!("/proc/{main}/task/{main}/children"));
        let children = children.expect("its children");
        let workers = children
            .split_whitespace()
            .map(|pid| pid.parse().expect("a process"));
        std::iter::once(main).chain(workers).map(used_by).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // nginx takes its workers with it only if it is asked to.
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a server");
        self.process.wait().expect("its end");
    }
}

/// In nanoseconds from the scheduler, where ticks of 10 ms are too coarse.
fn used_by(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a running process");
    let of_task = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let nanoseconds = text
            .split_whitespace()
            .next()
            .and_then(|word| word.parse().ok());
        super::machine::float(nanoseconds.unwrap_or(0)) / 1e9
    };
    tasks.flatten().map(of_task).sum()
}

/// A `config.yml` that both registries read.
fn configuration(tree: &Path, tls: &str) -> (PathBuf, SocketAddr) {
    let address = free_address();
    let text = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"{tls}}}\n",
        tree.display()
    );
    let file = tree.with_extension("yml");
    fs::write(&file, text).expect("a configuration");
    (file, address)
}

fn tls(content: &Content, is_encrypted: bool) -> String {
    if !is_encrypted {
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
