//! From the command line to the exit code.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::timeout;

use super::raw::Raw;
use super::{assert_refused, blob, delete, push_small};
use crate::support::hub::Hub;
use crate::support::programs::Options;
use crate::support::until::until;

const PATIENCE: Duration = Duration::from_secs(30);

/// The program, in a directory and an environment of its own.
fn program(directory: &Path, arguments: &[&str]) -> Command {
    let mut larder = Command::new(env!("CARGO_BIN_EXE_larder"));
    larder.args(arguments).env_clear().current_dir(directory);
    larder
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    larder.kill_on_drop(true);
    larder
}

async fn output(mut larder: Command) -> Output {
    let output = timeout(PATIENCE, larder.output()).await.expect("an end");
    output.expect("a program")
}

/// Runs it to its end: its exit code, what it printed, and what it complained about.
async fn run(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = output(program(directory, arguments)).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

#[tokio::test]
async fn the_program_says_what_it_is_and_how_it_is_used() {
    let home = directory();
    let version = run(home.path(), &["--version"]).await;
    let expected = format!("larder {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(version, (Some(0), expected, String::new()));
    let (code, help, _) = run(home.path(), &["--help"]).await;
    assert_eq!(code, Some(0));
    for wanted in [
        "Usage:",
        "serve",
        "config",
        "Examples:",
        "registry-mirrors",
        "REGISTRY_",
    ] {
        assert!(help.contains(wanted), "{wanted}: {help}");
    }
    let (code, _, complaint) = run(home.path(), &["--nonsense"]).await;
    assert_eq!(code, Some(2), "{complaint}");
    assert!(complaint.contains("--nonsense"), "{complaint}");
    // Neither asking nor erring made anything.
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn the_configuration_that_is_printed_loads_again() {
    let home = directory();
    let (code, printed, complaint) = run(home.path(), &["config"]).await;
    assert_eq!((code, complaint.as_str()), (Some(0), ""));
    std::fs::write(home.path().join("config.yml"), &printed).unwrap();
    let (code, first, complaint) = run(home.path(), &["config", "config.yml"]).await;
    assert_eq!((code, complaint.as_str()), (Some(0), ""));
    std::fs::write(home.path().join("again.yml"), &first).unwrap();
    let (_, second, _) = run(home.path(), &["config", "again.yml"]).await;
    assert_eq!(first, second);
    let mut overridden = program(home.path(), &["config"]);
    overridden.env("REGISTRY_HTTP_ADDR", "127.0.0.1:7777");
    let overridden = output(overridden).await;
    assert!(String::from_utf8_lossy(&overridden.stdout).contains("127.0.0.1:7777"));
}

#[tokio::test]
async fn a_printed_configuration_that_nobody_takes_is_told_of() {
    let home = directory();
    let (reader, gone) = std::io::pipe().unwrap();
    drop(reader);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let outputs = [
        (Stdio::from(gone), Some(0), ""),
        (
            full.unwrap().into(),
            Some(1),
            "larder: cannot write to standard output: No space left on device (os error 28)\n",
        ),
    ];
    for (out, code, complaint) in outputs {
        let mut config = program(home.path(), &["config"]);
        let ended = config.stdout(out).spawn().unwrap().wait_with_output();
        let ended = timeout(PATIENCE, ended).await.expect("an end").unwrap();
        assert_eq!(ended.status.code(), code);
        assert_eq!(String::from_utf8_lossy(&ended.stderr), complaint);
    }
}

/// Distribution 2.8 and 3 say the same, and end well.
#[tokio::test]
async fn by_distributions_name_an_unknown_command_gets_distributions_answer() {
    let home = directory();
    let registry = home.path().join("registry");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_larder"), &registry).unwrap();
    let theirs = Command::new("docker-registry").arg("mirror").output();
    let theirs = theirs.await.expect("docker-registry is installed");
    let mut ours = program(home.path(), &["mirror"]);
    ours.arg0(&registry);
    let ours = output(ours).await;
    assert_eq!(ours.status.code(), theirs.status.code());
    let (ours, theirs) = (ours.stderr, theirs.stderr);
    let [ours, theirs] = [ours, theirs].map(|said| String::from_utf8(said).unwrap());
    assert_eq!(ours.trim_end(), theirs.trim_end());
    // A file is none: the entry point of Distribution's image serves it.
    let mut file = program(home.path(), &["mirror.yml"]);
    file.arg0(&registry);
    let file = output(file).await;
    assert_eq!(file.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&file.stderr).contains("cannot read the configuration"));
    // Nor is it one for larder.
    let (code, _, complaint) = run(home.path(), &["mirror"]).await;
    assert_eq!(code, Some(1), "{complaint}");
}

#[tokio::test]
async fn a_configuration_that_is_wrong_gets_one_clear_line() {
    let home = directory();
    for (text, wanted) in [
        (
            "version: 0.1\nstorage:\n  delete:\n    enabled: maybe\n",
            &["config.yml:4", "enabled"][..],
        ),
        (
            "version: 0.1\nhttp:\n  addr: [1, 2]\n",
            &["config.yml:3", "addr"],
        ),
        ("version: 0.1\nhttp: {addr: ':5000'\n", &["config.yml:"]),
        (
            "version: 0.1\nupstreams:\n  docker.io: {url: 'not a url'}\n",
            &["config.yml:3", "url"],
        ),
        (
            "version: 0.1\ncache: {freshfor: soon}\n",
            &["config.yml:2", "freshfor"],
        ),
        ("- a\n- list\n", &["config.yml:1"]),
    ] {
        std::fs::write(home.path().join("config.yml"), text).unwrap();
        for arguments in [
            &["serve", "config.yml"][..],
            &["config.yml"],
            &["config", "config.yml"],
        ] {
            let (code, printed, complaint) = run(home.path(), arguments).await;
            assert_eq!((code, printed.as_str()), (Some(1), ""), "{text}");
            assert_eq!(complaint.lines().count(), 1, "{text}: {complaint}");
            assert!(
                wanted.iter().all(|part| complaint.contains(part)),
                "{text}: {complaint}"
            );
        }
    }
    let (code, _, complaint) = run(home.path(), &["serve", "missing.yml"]).await;
    assert_eq!(
        (code, complaint.lines().count()),
        (Some(1), 1),
        "{complaint}"
    );
    assert!(complaint.contains("missing.yml"), "{complaint}");
    let mut larder = program(home.path(), &[]);
    larder.env("REGISTRY_STORAGE_DELETE_ENABLED", "maybe");
    let refused = output(larder).await;
    let complaint = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{complaint}");
    assert!(
        complaint.contains("REGISTRY_STORAGE_DELETE_ENABLED"),
        "{complaint}"
    );
}

#[tokio::test]
async fn without_a_command_and_a_file_it_serves_from_where_it_stands() {
    let home = directory();
    let mut larder = program(home.path(), &[]);
    larder.env("REGISTRY_HTTP_ADDR", "127.0.0.1:0");
    let mut larder = larder.spawn().expect("a program");
    let mut lines = BufReader::new(larder.stderr.take().expect("a pipe")).lines();
    let address = loop {
        let line = timeout(PATIENCE, lines.next_line()).await.expect("a line");
        let line = line.expect("text").expect("more to come");
        if let Some((_, address)) = line.split_once("listening on http://") {
            break address.to_owned();
        }
    };
    let mut raw = Raw::connect(&address).await;
    raw.send("GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await;
    let statuses: Vec<u16> = raw
        .answers()
        .await
        .iter()
        .map(|answer| answer.status)
        .collect();
    assert_eq!(statuses, [200]);
    assert!(home.path().join("larder-data").is_dir());
    let pid = larder
        .id()
        .and_then(|pid| Pid::from_raw(pid.cast_signed()))
        .expect("a process");
    // As Ctrl-C does.
    kill_process(pid, Signal::INT).expect("our own child");
    let status = timeout(PATIENCE, larder.wait()).await.expect("an end");
    assert_eq!(status.expect("our own child").code(), Some(0));
}

#[tokio::test]
async fn variables_override_the_file() {
    let options = Options::registry().environment("REGISTRY_STORAGE_DELETE_ENABLED", "false");
    let larder = options
        .environment("REGISTRY_HTTP_HEADERS_X-LAB", "[yes]")
        .start()
        .await;
    push_small(&larder, "a", "v1", "{}").await;
    assert_refused(
        &delete(&larder, "/v2/a/manifests/v1").await,
        405,
        "UNSUPPORTED",
    );
    larder.finish().await;
}

#[tokio::test]
async fn a_second_larder_on_the_same_directory_is_refused_and_the_first_unharmed() {
    let home = directory();
    let larder = Options::registry().start().await;
    push_small(&larder, "a", "v1", "{}").await;
    let mut second = program(home.path(), &["serve"]);
    second.env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", larder.root());
    second.env("REGISTRY_HTTP_ADDR", "127.0.0.1:0");
    // Were it not refused, the first of the two would be given up after a while.
    for second in [output(second).await, larder.start_second()] {
        let complaint = String::from_utf8_lossy(&second.stderr);
        assert_eq!(second.status.code(), Some(1), "{complaint}");
        assert!(
            complaint.contains(&format!("process {}", larder.pid())),
            "{complaint}"
        );
        assert!(
            complaint.contains(&*larder.root().to_string_lossy()),
            "{complaint}"
        );
    }
    push_small(&larder, "a", "v2", "{}").await;
    assert_eq!(
        larder.get("/v2/a/tags/list").await.json()["tags"],
        json!(["v1", "v2"])
    );
    larder.finish().await;
}

#[tokio::test]
async fn the_lock_of_a_killed_process_is_no_obstacle() {
    let mut larder = Options::registry().start().await;
    let manifest = push_small(&larder, "a", "v1", "{}").await;
    for _ in 0..2 {
        larder.kill().await;
        assert!(larder.root().join("larder.lock").exists());
        larder.start_again().await;
    }
    assert_eq!(larder.get("/v2/a/manifests/v1").await.body, manifest);
    larder.finish().await;
}

#[tokio::test]
async fn a_port_in_use_is_said_to_be() {
    let home = directory();
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let mut larder = program(home.path(), &["serve"]);
    larder.env("REGISTRY_HTTP_ADDR", &address);
    let refused = output(larder).await;
    let complaint = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{complaint}");
    let last = complaint.lines().last().unwrap_or_default();
    for wanted in [address.as_str(), "in use", "http.addr"] {
        assert!(last.contains(wanted), "{wanted}: {complaint}");
    }
}

#[tokio::test]
async fn no_password_is_made_up_by_a_larder_that_does_not_start() {
    let home = directory();
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let users = home.path().join("htpasswd");
    let failure = Options::registry()
        .set(&["http", "addr"], json!(address))
        .set(
            &["auth", "htpasswd"],
            json!({ "realm": "x", "path": users }),
        )
        .fail()
        .await;
    assert!(failure.log.contains("in use"), "{}", failure.log);
    assert!(
        !failure.log.contains("password=") && !users.exists(),
        "{}",
        failure.log
    );
}

#[tokio::test]
async fn the_first_start_says_how_it_goes_on() {
    let hub = Hub::start().await;
    let larder = Options::mirror_of(&hub)
        .upstream("quay.io", &hub)
        .start()
        .await;
    let (log, url) = (larder.log(), larder.url());
    for word in [
        "mirroring docker.io, quay.io".to_owned(),
        format!("storing in {}", larder.root().display()),
        format!("{{\"registry-mirrors\": [\"{url}\"]}}"),
        "larder setup docker".to_owned(),
        format!("with a browser: {url}/"),
    ] {
        assert!(log.contains(&word), "{word}: {log}");
    }
    larder.finish().await;
    // Where it listens everywhere, it is named as others reach it.
    let everywhere = Options::registry().set(&["http", "addr"], json!(":0"));
    let larder = everywhere.start().await;
    let browser = larder.log();
    let browser = browser
        .split("with a browser: http://")
        .nth(1)
        .expect("an address");
    assert!(
        !browser.starts_with("0.0.0.0") && !browser.starts_with("[::]"),
        "{browser}"
    );
    larder.finish().await;
}

#[tokio::test]
async fn a_stop_lets_a_download_under_way_finish_and_takes_no_new_client() {
    let mut larder = Options::registry().start().await;
    let bytes: Vec<u8> = (0..30_000_000_u32).map(|n| (n % 251) as u8).collect();
    let digest = larder.push_blob("a", &bytes).await;
    let request = larder.request("GET", &format!("/v2/a/blobs/{digest}"));
    let mut download = request.send().await.expect("an answer");
    let mut got = download
        .chunk()
        .await
        .expect("bytes")
        .expect("some")
        .to_vec();
    let mut idle = Raw::connect(larder.address()).await;
    idle.send("GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(idle.answer().await.map(|answer| answer.status), Some(200));
    larder.signal(Signal::TERM);
    // A connection that only waits is let go of at once, and nobody new gets in while the download
    // goes on. Which of the two comes first is open.
    assert!(idle.answers().await.is_empty());
    until("nobody gets in", async || {
        TcpStream::connect(larder.address()).await.is_err()
    })
    .await;
    while let Some(piece) = download.chunk().await.expect("the rest") {
        got.extend_from_slice(&piece);
    }
    assert!(got == bytes, "{} of {} bytes", got.len(), bytes.len());
    assert_eq!(larder.ended().await.code(), Some(0));
    larder.start_again().await;
    assert_eq!(blob(&larder, "a", &digest).await.len(), bytes.len());
    larder.finish().await;
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let mut larder = Options::registry().start().await;
    let digest = larder.push_blob("a", &vec![1; 30_000_000]).await;
    let request = larder.request("GET", &format!("/v2/a/blobs/{digest}"));
    let download = request.send().await.expect("an answer");
    larder.signal(Signal::TERM);
    larder.logged("stopping: ").await;
    larder.signal(Signal::TERM);
    // The download, which nobody reads, does not keep it.
    assert_eq!(larder.ended().await.code(), Some(1));
    drop(download);
    larder.start_again().await;
    larder.finish().await;
}

#[tokio::test]
async fn a_data_directory_that_takes_no_writes_is_served_and_pushes_are_told() {
    let mut larder = Options::registry().start().await;
    let manifest = push_small(&larder, "a", "v1", "{}").await;
    larder.kill().await;
    let mount = ReadOnly::mount(larder.root());
    larder.start_again().await;
    assert_eq!(larder.get("/v2/a/manifests/v1").await.body, manifest);
    assert_eq!(
        larder.get("/v2/_catalog").await.json(),
        json!({"repositories": ["a"]})
    );
    let uploads = larder.request("POST", "/v2/a/blobs/uploads/");
    assert_refused(&larder.send(uploads).await, 507, "UNAVAILABLE");
    assert_refused(
        &delete(&larder, "/v2/a/manifests/v1").await,
        507,
        "UNAVAILABLE",
    );
    assert_eq!(larder.get("/v2/a/manifests/v1").await.body, manifest);
    larder.kill().await;
    drop(mount);
    larder.start_again().await;
    larder.finish().await;
}

/// A directory mounted over itself, so that nothing can be written to it. Needs root, as the
/// tests with dockerd do.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn mount(path: &Path) -> Self {
        let mount = |arguments: &[&str]| {
            let mut command = std::process::Command::new("mount");
            let status = command.args(arguments).arg(path).arg(path).status();
            assert!(status.expect("mount").success(), "mounting needs root");
        };
        mount(&["--bind"]);
        let mounted = Self(path.to_owned());
        mount(&["-o", "remount,ro,bind"]);
        mounted
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}
