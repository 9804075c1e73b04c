//! Real programs as test clients and upstreams: dockerd, containerd, skopeo, buildah and Debian's
//! `docker-registry`; and `strace`, by which the kernel fails.
//!
//! Each gets a directory of its own under the temporary directory and an environment of its own, so
//! that any number of them run side by side and nothing of the machine's configuration shows
//! through. None can reach anything but loopback: whatever is not asked from 127.0.0.1 goes to a
//! proxy on a closed port, and so fails at once.

mod archive;
mod browser;
mod buildah;
mod containerd;
mod curl;
mod daemon;
mod distribution;
mod dockerd;
mod htpasswd;
mod larder;
mod machine;
mod pebble;
mod podman;
mod prometheus;
mod recorder;
mod skopeo;
mod strace;
mod workshop;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

pub(crate) use self::archive::File;
pub(crate) use self::browser::{Browser, Key};
pub(crate) use self::buildah::Buildah;
pub(crate) use self::containerd::Containerd;
pub(crate) use self::curl::Curl;
pub(crate) use self::distribution::{Distribution, DistributionOptions, TokenAuth};
pub(crate) use self::dockerd::{Dockerd, DockerdOptions};
pub(crate) use self::htpasswd::Htpasswd;
pub(crate) use self::larder::{Answer, Larder, Options, Resting, client_trusting};
pub(crate) use self::machine::Machine;
pub(crate) use self::pebble::{Pebble, free_port};
pub(crate) use self::podman::Podman;
pub(crate) use self::prometheus::{Prometheus, promtool, promtool_with_input};
pub(crate) use self::recorder::Recorder;
pub(crate) use self::skopeo::Skopeo;
pub(crate) use self::strace::Failing;
pub(crate) use self::workshop::{Running, Workshop};

/// Longer than the 75 seconds for which dockerd repeats a blob that is answered with a 5xx.
const COMMAND_LIMIT: Duration = Duration::from_mins(3);

/// Nothing listens on the discard port, so what is sent to this proxy is refused without leaving
/// the machine.
const NOWHERE: &str = "http://127.0.0.1:9";

/// Which package brings which program; `tests/install-packages` has the same list.
const PACKAGES: &[(&str, &str)] = &[
    ("dockerd", "docker.io"),
    ("docker", "docker.io"),
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("docker-registry", "docker-registry"),
    ("skopeo", "skopeo"),
    ("buildah", "buildah"),
    ("podman", "podman"),
    ("umount", "mount"),
    ("htpasswd", "apache2-utils"),
    ("curl", "curl"),
    ("pebble", "pebble"),
    ("pebble-challtestsrv", "pebble"),
    ("strace", "strace"),
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    ("chromium", "chromium"),
    ("chromedriver", "chromium-driver"),
    ("strip", "binutils"),
    ("systemd-analyze", "systemd"),
    ("systemd-socket-activate", "systemd"),
    ("mandoc", "mandoc"),
    ("docker-compose", "docker-compose"),
    ("rsync", "rsync"),
    ("openssl", "openssl"),
    ("ip", "iproute2"),
    ("make", "make"),
];

/// What a command printed, and whether it succeeded.
#[derive(Debug)]
#[must_use]
pub(crate) struct Output {
    /// The command line, for messages.
    pub(crate) command: String,
    /// Whether it exited with 0.
    pub(crate) success: bool,
    /// What it wrote to its standard output.
    pub(crate) stdout: String,
    /// What it wrote to its standard error.
    pub(crate) stderr: String,
}

impl Output {
    /// Standard output, if the command succeeded; else a panic with everything it wrote.
    pub(crate) fn expect_success(self) -> String {
        self.expect_success_or("")
    }

    /// The same, with `more` (a daemon's log) in the panic's message.
    fn expect_success_or(self, more: &str) -> String {
        let Self {
            command,
            success,
            stdout,
            stderr,
        } = self;
        assert!(
            success,
            "`{command}` failed\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n{more}"
        );
        stdout
    }
}

/// A new directory for one program.
fn new_home(program: &str) -> TempDir {
    tempfile::Builder::new()
        .prefix(&format!("larder-{program}-"))
        .tempdir()
        .expect("a temporary directory")
}

/// Where a program is. Daemons live in `sbin`, which is not on everybody's `PATH`.
fn find(program: &str) -> PathBuf {
    env::split_paths(&search_path())
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .unwrap_or_else(|| missing(program))
}

fn missing(program: &str) -> ! {
    let package = PACKAGES.iter().find(|(name, _)| *name == program);
    let package = package.map_or(program, |(_, package)| package);
    panic!("this test needs `{program}` of package `{package}`: run tests/install-packages as root")
}

fn search_path() -> String {
    format!(
        "{}:/usr/local/sbin:/usr/sbin:/sbin",
        env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned())
    )
}

/// A program that sees `home` as its user's directory and as the place for temporary files, and no
/// network but loopback.
fn command(program: &str, home: &Path) -> Command {
    let mut command = Command::new(find(program));
    command
        .env_clear()
        .env("PATH", search_path())
        .env("HOME", home)
        .env("TMPDIR", home)
        .env("LC_ALL", "C.UTF-8")
        .current_dir(home);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        command.env(name, NOWHERE);
    }
    for name in ["NO_PROXY", "no_proxy"] {
        command.env(name, "127.0.0.1,localhost");
    }
    command
}

/// What skopeo and buildah need besides, so that their configuration, credentials and cache of
/// known blobs stay in `home`. That cache is /var/lib/containers/cache for all users but a rootless
/// one; if it were shared, a push would try mounts from repositories that other tests pushed.
fn containers_command(program: &str, home: &Path) -> Command {
    let mut command = command(program, home);
    command
        .env("_CONTAINERS_ROOTLESS_UID", "1")
        .env("_CONTAINERS_USERNS_CONFIGURED", "done")
        .env("XDG_RUNTIME_DIR", home)
        .env("XDG_DATA_HOME", home)
        .env("XDG_CONFIG_HOME", home.join(".config"))
        .env("REGISTRY_AUTH_FILE", home.join("auth.json"));
    command
}

/// Where skopeo and buildah find their registries.conf in `home`.
const REGISTRIES: &str = ".config/containers/registries.conf";

/// Writes what a `containers_command` reads: no credentials, and the mirrors as (registry, the
/// mirror's location, which has no scheme).
fn write_containers_files(home: &Path, mirrors: &[(&str, &str)]) {
    let mut registries = vec!["unqualified-search-registries = [\"docker.io\"]".to_owned()];
    for (registry, mirror) in mirrors {
        registries.push(format!("[[registry]]\nlocation = \"{registry}\""));
        registries.push(format!(
            "[[registry.mirror]]\nlocation = \"{mirror}\"\ninsecure = true"
        ));
    }
    write(&home.join(REGISTRIES), &registries.join("\n"));
    write(&home.join("auth.json"), "{}");
    write(
        &home.join("policy.json"),
        r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
    );
}

/// Writes a configuration file, and its directory if need be.
fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a file in a directory"))
        .expect("a directory for a configuration file");
    std::fs::write(path, text)
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

/// Runs a command to its end. It is killed if the caller stops waiting, or when it takes longer
/// than any test should.
async fn run(command: Command, input: &[u8]) -> Output {
    let shown = [command.get_program()]
        .into_iter()
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ");
    let mut child = tokio::process::Command::from(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start `{shown}`: {error}"));
    let mut stdin = child.stdin.take().expect("its input is a pipe");
    let feed = async move {
        // A program that ends before it has read everything says itself what it missed.
        _ = stdin.write_all(input).await;
    };
    let Ok(((), output)) = timeout(COMMAND_LIMIT, async {
        tokio::join!(feed, child.wait_with_output())
    })
    .await
    else {
        panic!("`{shown}` did not end in {COMMAND_LIMIT:?}");
    };
    let output = output.unwrap_or_else(|error| panic!("cannot wait for `{shown}`: {error}"));
    Output {
        command: shown,
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
