//! The units: systemd's own opinion of them, and larder under its protocols.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{read, source};
use crate::support::hub::Hub;
use crate::support::image::Image;
use crate::support::programs::{
    Options, Resting, Running, Skopeo, Workshop, client_trusting, free_port,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// The units in a directory, with the program under test in the place of the installed one.
fn units(shop: &Workshop) -> [PathBuf; 2] {
    let service = read("packaging/systemd/larder.service");
    let program = "ExecStart=/usr/bin/larder";
    assert!(service.contains(program));
    let ours = format!("ExecStart={}", env!("CARGO_BIN_EXE_larder"));
    let paths = ["larder.service", "larder.socket"].map(|name| shop.path(name));
    std::fs::write(&paths[0], service.replace(program, &ours)).expect("a file");
    std::fs::copy(source("packaging/systemd/larder.socket"), &paths[1]).expect("a file");
    paths
}

#[tokio::test]
async fn systemd_finds_nothing_wrong_with_the_units() {
    let shop = Workshop::new();
    let units = units(&shop);
    // The manual is not installed here.
    let mut verify = shop.command("systemd-analyze", &["verify", "--man=no"]);
    verify.args(&units);
    let verified = shop.finish(verify).await;
    assert_eq!(verified.stderr, "");
    verified.expect_success();
    let mut security = shop.command("systemd-analyze", &["security", "--offline=true"]);
    security.arg("--threshold=15").arg(&units[0]);
    shop.finish(security).await.expect_success();
}

/// The file of a larder that is to be started in an unusual way, in a directory to be kept.
fn configuration(resting: &Resting) -> (TempDir, OsString) {
    let (command, home) = resting.command(&["serve"]);
    let file = command.get_args().last().expect("a file").to_owned();
    (home, file)
}

/// A set of system calls, with the sets in it.
async fn calls(shop: &Workshop, set: &str) -> BTreeSet<String> {
    let mut calls = BTreeSet::new();
    let mut sets = vec![set.to_owned()];
    while let Some(set) = sets.pop() {
        let shown = shop.run("systemd-analyze", &["syscall-filter", &set]).await;
        let shown = shown.expect_success();
        let names = shown.lines().skip(1).map(str::trim);
        for name in names.filter(|name| !name.is_empty() && !name.starts_with('#')) {
            if name.starts_with('@') {
                sets.push(name.to_owned());
            } else {
                calls.insert(name.to_owned());
            }
        }
    }
    calls
}

#[tokio::test]
async fn larder_makes_no_system_call_that_its_unit_forbids() {
    let shop = Workshop::new();
    let unit = read("packaging/systemd/larder.service");
    let mut allowed = calls(&shop, "@default").await;
    for line in unit.lines() {
        let Some(sets) = line.strip_prefix("SystemCallFilter=") else {
            continue;
        };
        for set in sets.trim_start_matches('~').split_whitespace() {
            let named = calls(&shop, set).await;
            if sets.starts_with('~') {
                allowed.retain(|call| !named.contains(call));
            } else {
                allowed.extend(named);
            }
        }
    }
    let hub = Hub::start().await;
    hub.push("library/app", "1", &Image::uniform(7, 2, 300_000));
    let resting = Options::mirror_of(&hub).rest();
    let (_home, file) = configuration(&resting);
    let trace = shop.path("trace");
    let mut traced = shop.command("strace", &["-f", "-qq", "-o"]);
    traced.arg(&trace).arg(env!("CARGO_BIN_EXE_larder"));
    traced.arg("serve").arg(file);
    let running = Running::start("strace", traced);
    let address = running.address().await;
    let skopeo = Skopeo::new();
    let (mirrored, local) = ("library/app:1", "team/app:1");
    let at = |name: &str| format!("docker://{address}/{name}");
    skopeo.copy(&at(mirrored), &at(local)).await;
    let back = format!("dir:{}", skopeo.path("back").display());
    skopeo.copy(&at(local), &back).await;
    // Signals are for larder: strace would go, and leave it.
    let read = || std::fs::read_to_string(&trace).expect("a trace");
    let first = read().split(' ').next().map(str::parse);
    let larder = Pid::from_raw(first.expect("a line").expect("a number")).expect("a process");
    kill_process(larder, Signal::HUP).expect("a signal");
    running.logged("has been read again").await;
    kill_process(larder, Signal::TERM).expect("a signal");
    assert!(running.ended().await.success());
    let trace = read();
    let made = trace.lines().filter_map(|line| {
        let (_, call) = line.split_once(' ')?;
        let (name, _) = call.trim_start().split_once('(')?;
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        name.chars().all(is_name).then(|| name.to_owned())
    });
    let made: BTreeSet<String> = made.collect();
    assert!(
        made.contains("sendfile") && made.contains("accept4"),
        "{made:?}"
    );
    let forbidden: Vec<_> = made.difference(&allowed).collect();
    assert!(forbidden.is_empty(), "{forbidden:?}");
}

#[tokio::test]
async fn larder_serves_the_socket_that_it_is_given() {
    let shop = Workshop::new();
    let resting = Options::registry().rest();
    let tcp = format!("127.0.0.1:{}", free_port());
    let path = shop.path("socket");
    for (place, listening) in [
        (tcp.clone(), format!("listening on http://{tcp}")),
        (
            path.display().to_string(),
            format!("listening on http+unix://{}", path.display()),
        ),
    ] {
        let mut activate = shop.command("systemd-socket-activate", &["-l", &place]);
        let (_home, file) = configuration(&resting);
        activate.arg(env!("CARGO_BIN_EXE_larder"));
        activate.arg("serve").arg(file);
        let running = Running::start("systemd-socket-activate", activate);
        running.logged("Listening on").await;
        let client = client_trusting(None);
        let client = if place.starts_with('/') {
            client.unix_socket(place.clone())
        } else {
            client
        };
        // The first connection is what starts it.
        let url = format!("http://{tcp}/v2/");
        let answer = client.build().expect("a client").get(url).send().await;
        assert_eq!(answer.expect("an answer").status(), 200, "{place}");
        running.logged(&listening).await;
        let log = running.log();
        assert!(running.stop().await.success(), "{log}");
        // It was not larder that made the socket.
        assert!(!place.starts_with('/') || path.exists());
    }
}

#[tokio::test]
async fn more_than_one_socket_or_one_that_nobody_can_connect_to_is_refused() {
    let shop = Workshop::new();
    let resting = Options::registry().rest();
    let datagram = shop.path("datagram").display().to_string();
    let (one, other) = (free_port().to_string(), free_port().to_string());
    for (arguments, complaint) in [
        (vec!["-l", &one, "-l", &other], "2 sockets were given"),
        (vec!["-d", "-l", &datagram], "write ListenStream"),
    ] {
        let mut activate = shop.command("systemd-socket-activate", &arguments);
        let (_home, file) = configuration(&resting);
        activate.arg(env!("CARGO_BIN_EXE_larder"));
        activate.arg("serve").arg(file);
        let running = Running::start("systemd-socket-activate", activate);
        running.logged("Listening on").await;
        if arguments[0] == "-d" {
            let knock = UnixDatagram::unbound().expect("a socket");
            knock.send_to(b"x", &datagram).expect("a datagram");
        } else {
            _ = tokio::net::TcpStream::connect(format!("127.0.0.1:{one}")).await;
        }
        running.logged(complaint).await;
    }
}

#[tokio::test]
async fn the_service_manager_is_told_when_larder_is_ready_reloads_and_stops() {
    let shop = Workshop::new();
    let place = shop.path("notify");
    let socket = UnixDatagram::bind(&place).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a limit");
    let told = || {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).expect("a word in time");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let place = place.to_str().expect("a plain name");
    let mut larder = Options::registry()
        .environment("NOTIFY_SOCKET", place)
        .start()
        .await;
    assert_eq!(told(), "READY=1");
    larder.hang_up().await;
    let reloading = told();
    let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    let since: u64 = since.expect(&reloading).parse().expect("a number");
    assert!(since > 0);
    assert_eq!(told(), "READY=1");
    larder.rewrite("version: 0.1\nstorage: {s3: {}}");
    larder.hang_up().await;
    // It goes on as before, so it is as ready as before.
    assert!(told().starts_with("RELOADING=1"));
    assert_eq!(told(), "READY=1");
    larder.finish().await;
    assert_eq!(told(), "STOPPING=1");
}

#[tokio::test]
async fn a_service_manager_that_is_gone_keeps_nobody_from_being_served() {
    let shop = Workshop::new();
    let place = shop.path("nobody").display().to_string();
    let larder = Options::registry()
        .environment("NOTIFY_SOCKET", &place)
        .start()
        .await;
    larder.logged("the service manager could not be told").await;
    assert_eq!(larder.get("/v2/").await.status, 200);
    larder.finish().await;
}
