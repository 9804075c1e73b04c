//! `larder doctor`: what it sees, and what it says to do about it.

use serde_json::{Value, json};

use crate::support::authority::{Authority, Pair};
use crate::support::disk::Disk;
use crate::support::hub::{Fault, Hub, What, Where};
use crate::support::programs::{Options, Output, Resting};

/// The findings, and whether it succeeded.
fn findings(output: &Output) -> Vec<Value> {
    let said: Value =
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let findings = said["findings"].as_array().unwrap().clone();
    let broken = findings.iter().filter(|it| it["state"] == "broken").count();
    assert_eq!(said["broken"], broken);
    assert_eq!(output.success, broken == 0, "{output:?}");
    for finding in &findings {
        assert_eq!(
            finding["todo"].is_null(),
            finding["state"] == "fine",
            "{finding}"
        );
    }
    findings
}

async fn doctor(larder: &Resting) -> Vec<Value> {
    findings(&larder.run(&["doctor", "--json"]).await)
}

fn find<'a>(findings: &'a [Value], about: &str, word: &str) -> &'a Value {
    let mut found = findings
        .iter()
        .filter(|it| it["about"] == about && it["seen"].as_str().unwrap().contains(word));
    found
        .next()
        .unwrap_or_else(|| panic!("{about}: {word}: {findings:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_larder_that_is_well_is_said_to_be() {
    let hub = Hub::builder().bearer().start().await;
    let rest = Options::mirror_of(&hub).rest();
    let found = doctor(&rest).await;
    let fine = |about: &str, word: &str| {
        let finding = find(&found, about, word);
        assert_eq!(finding["state"], "fine", "{finding}");
    };
    fine("configuration", "nothing to say");
    fine("disk", "larder makes it");
    fine("disk", "takes writes");
    fine("port", "is free");
    fine("docker.io", "let in");
    // The hub does not say.
    fine("clock", "nobody said");
    assert!(!rest.root().exists(), "nothing is made");

    let larder = Options::mirror_of(&hub).start().await;
    let output = larder.run(&["doctor"]).await;
    for word in ["ok      port", "a registry answers at", "DNS", "TCP"] {
        assert!(
            output.success && output.stdout.contains(word),
            "{word}: {output:?}"
        );
    }
    let left: Vec<_> = std::fs::read_dir(larder.root()).unwrap().collect();
    let is_ours = |it: &std::io::Result<std::fs::DirEntry>| {
        it.as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .contains("doctor")
    };
    assert!(!left.iter().any(is_ours), "{left:?}");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_upstream_that_is_ill_is_named_with_what_to_do() {
    let (hub, failing, limiting) = (Hub::start().await, Hub::start().await, Hub::start().await);
    let nobody = Hub::start().await;
    nobody.down().await;
    failing.fault(Fault::on(Where::anything()).does(What::Status(503, &[], "")));
    limiting.fault(Fault::on(Where::manifests()).does(What::Status(429, &[], "")));
    let larder = Options::mirror_of(&hub)
        .upstream("failing.example.com", &failing)
        .upstream("limiting.example.com", &limiting)
        .upstream("nobody.example.com", &nobody)
        .set(
            &["upstreams", "nowhere.example.com", "url"],
            json!("http://nowhere.invalid"),
        )
        .login("docker.io", "anna", "s3cretive")
        .environment("HTTP_PROXY", "")
        .environment("http_proxy", "")
        .rest();
    let found = doctor(&larder).await;
    let broken = find(&found, "nobody.example.com", "no connection");
    assert_eq!(broken["state"], "broken");
    let unnamed = find(&found, "nowhere.example.com", "nowhere.invalid");
    assert!(
        unnamed["todo"]
            .as_str()
            .unwrap()
            .contains("/etc/resolv.conf"),
        "{unnamed}"
    );
    assert_eq!(
        find(&found, "failing.example.com", "503")["state"],
        "broken"
    );
    let limited = find(&found, "limiting.example.com", "limits our requests");
    assert_eq!(limited["state"], "doubtful");
    let text = serde_json::to_string(&found).unwrap();
    assert!(!text.contains("s3cretive"), "{text}");

    let late = Hub::start().await;
    let date = "Mon, 01 Jan 2024 00:00:00 GMT".to_owned();
    late.fault(Fault::on(Where::anything()).does(What::OtherHeader("date", date)));
    let found = doctor(&Options::mirror_of(&late).rest()).await;
    let clock = find(&found, "clock", "ahead of");
    assert!(
        clock["todo"].as_str().unwrap().contains("set-ntp"),
        "{clock}"
    );

    let offline = Options::mirror_of(&nobody)
        .set(&["cache", "offline"], json!(true))
        .rest();
    let found = doctor(&offline).await;
    assert_eq!(
        find(&found, "upstreams", "larder is offline")["state"],
        "fine"
    );
    assert!(nobody.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_or_takes_no_writes_is_broken() {
    let disk = Disk::of("2m");
    std::fs::create_dir(disk.root()).unwrap();
    let larder = Options::registry().on(&disk.root()).rest();
    let found = doctor(&larder).await;
    let room = find(&found, "disk", "are free");
    assert_eq!(room["state"], "broken");
    assert!(
        room["todo"].as_str().unwrap().contains("free some room"),
        "{room}"
    );
    let kind = find(&found, "disk", "tmpfs");
    assert!(kind["todo"].as_str().unwrap().contains("memory"), "{kind}");
    disk.fill_but(0);
    let found = doctor(&larder).await;
    let full = find(&found, "disk", "takes no writes");
    assert!(
        full["todo"].as_str().unwrap().contains("cache.maxsize"),
        "{full}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_users_and_ports_are_looked_at() {
    let authority = Authority::new("the tests");
    let (pair, other) = (Pair::new(&authority.issue()), Pair::new(&authority.issue()));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let rest = Options::registry().rest();
    let users = rest.home().join("htpasswd");
    let configured = || {
        Options::registry()
            .set(&["http", "addr"], json!(address))
            .set(
                &["auth", "htpasswd"],
                json!({ "realm": "x", "path": users }),
            )
    };
    let larder = configured()
        .tls(&pair.certificate(), &other.key(), authority.certificate())
        .rest();
    let found = doctor(&larder).await;
    assert_eq!(
        find(&found, "certificate", "holds until")["about"],
        "certificate"
    );
    let key = find(&found, "certificate", "KeyMismatch");
    assert!(
        key["state"] == "broken" && key["todo"].as_str().unwrap().contains("http.tls.key"),
        "{key}"
    );
    let absent = find(&found, "users", "is not there");
    assert!(
        absent["todo"].as_str().unwrap().contains("htpasswd -B -c"),
        "{absent}"
    );
    assert!(!users.exists(), "looking makes none");
    let held = find(&found, "server", "does not answer as a registry");
    assert!(
        held["todo"].as_str().unwrap().contains("ss -ltnp"),
        "{held}"
    );

    std::fs::write(&users, "anna:plain\n").unwrap();
    let found = doctor(&configured().rest()).await;
    find(&found, "users", "0 users, and 1 lines");
    let elsewhere = Options::registry()
        .set(&["http", "addr"], json!("192.0.2.1:5000"))
        .rest();
    let found = doctor(&elsewhere).await;
    assert_eq!(find(&found, "port", "192.0.2.1:5000")["state"], "broken");
}

#[tokio::test]
async fn a_configuration_that_does_not_load_is_the_one_finding() {
    let wrong = Options::registry()
        .set(&["cache", "freshfor"], json!("5 apples"))
        .rest();
    let found = doctor(&wrong).await;
    assert_eq!(found.len(), 1);
    assert!(find(&found, "configuration", "5 apples")["state"] == "broken");
    let odd = Options::registry().set(&["http", "foo"], json!(1)).rest();
    let found = doctor(&odd).await;
    assert_eq!(
        find(&found, "configuration", "http.foo")["state"],
        "doubtful"
    );
}
