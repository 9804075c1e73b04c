//! While a larder serves the data directory: it is asked, over HTTP.

use std::process::Stdio;

use serde_json::json;

use super::{assert_fails, assert_says, blobs_sent, docker_hub, two_platforms};
use crate::support::authority::{Authority, Pair};
use crate::support::hub::{Fault, Hub, What, Where};
use crate::support::image::Image;
use crate::support::programs::{Htpasswd, Options};

#[tokio::test(flavor = "multi_thread")]
async fn the_larder_that_runs_is_asked_and_fills_itself() {
    let hub = docker_hub().await;
    let image = two_platforms(1);
    hub.push("library/app", "1", &image);
    let larder = Options::mirror_of(&hub).start().await;
    larder
        .push("team/app", "1", &Image::random(7, &[2000]))
        .await;
    let own_name = format!("{}/team/app:1", larder.address());
    let warm = ["warm", "app:1", &own_name, "--platform", "linux/amd64"];
    let at = format!("fetching to the larder at {}/", larder.url());
    let words = [
        at.as_str(),
        "ready  app:1",
        "here   team/app:1: here already",
    ];
    assert_says(larder.run(&warm).await, &words);
    assert_eq!(
        blobs_sent(&hub, &image),
        blobs_sent(&hub, &image.children()[0])
    );
    assert_eq!(blobs_sent(&hub, &image).len(), 3);
    hub.clear_log();
    // No proxy leads to this machine itself.
    let names = ["HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"];
    let proxies = names.map(|name| {
        (
            name,
            if name.starts_with(['N', 'n']) {
                ""
            } else {
                "http://127.0.0.1:9"
            },
        )
    });
    let again = larder.run_as(&proxies, &warm).await;
    assert_says(again, &["here   app:1: here already"]);
    assert!(hub.asked().is_empty(), "{:?}", hub.asked());
    assert!(!larder.log().contains("cut short"), "{}", larder.log());
    // From anywhere else, by its address alone.
    let elsewhere = Options::registry().rest();
    let url = larder.url();
    let foreign = "nowhere.example.com:5000/x";
    let warm = ["warm", "app:1", "app:2", foreign, "--server", &url];
    let output = elsewhere.run(&warm).await;
    let reasons = [
        "2 of 3 images",
        "app:2: the server says: ",
        "x:latest: the server says: ",
    ];
    assert_fails(&output, &reasons);
    assert_eq!(blobs_sent(&hub, &image.children()[1]).len(), 3);
    let made = elsewhere.root().exists();
    assert!(!made, "nothing is made where nothing is stored");
    // A list has the same names for each command.
    let home = tempfile::tempdir().unwrap();
    let output = home.path().join("own.tar");
    let export = ["export", "-o", output.to_str().unwrap(), &own_name];
    larder.run(&export).await.expect_success();
    let ready = ["verify", "--offline", "app:1", &own_name];
    let ready = [&ready[..], &["--platform", "linux/arm64"]].concat();
    let words = [
        "ready     app:1",
        "ready     team/app:1",
        "linux/amd64 only",
    ];
    assert_says(larder.run(&ready).await, &words);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_pull_is_told_what_to_set() {
    let hub = docker_hub().await;
    hub.push("library/app", "1", &Image::random(1, &[2000]));
    let users = Htpasswd::new(&[("anna", "anna's password")]);
    let htpasswd = json!({ "realm": "the larder", "path": users.path() });
    let options = Options::mirror_of(&hub).set(&["auth", "htpasswd"], htpasswd);
    let larder = options.start().await;
    let warm = ["warm", "app:1"];
    for (variables, says) in [
        (&[][..], "set LARDER_USERNAME and LARDER_PASSWORD"),
        (
            &[("LARDER_USERNAME", "anna"), ("LARDER_PASSWORD", "hers?")],
            "check LARDER_USERNAME and LARDER_PASSWORD",
        ),
        (&[("LARDER_USERNAME", "anna")], "set both"),
    ] {
        let output = larder.run_as(variables, &warm).await;
        assert_fails(&output, &[says]);
        assert!(!output.stderr.contains("hers?"), "{output:?}");
    }
    let anna = [
        ("LARDER_USERNAME", "anna"),
        ("LARDER_PASSWORD", "anna's password"),
    ];
    assert_says(larder.run_as(&anna, &warm).await, &["ready  app:1"]);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_asked_by_https_where_it_has_a_certificate() {
    let hub = docker_hub().await;
    hub.push("library/app", "1", &Image::random(1, &[2000]));
    let authority = Authority::new("the tests");
    let pair = Pair::new(&authority.issue());
    let (certificate, key) = (pair.certificate(), pair.key());
    let options = Options::mirror_of(&hub).tls(&certificate, &key, authority.certificate());
    let larder = options.start().await;
    let trusted = larder.root().join("../ca.pem");
    std::fs::write(&trusted, authority.certificate()).unwrap();
    let warm = ["warm", "app:1", "--ca", trusted.to_str().unwrap()];
    assert_says(larder.run(&warm).await, &["ready  app:1"]);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_warm_began_goes_on_in_the_server() {
    let hub = Hub::start().await;
    let image = Image::random(1, &[1_000_000]);
    hub.push("library/app", "1", &image);
    let layer = &image.layer_digests()[0];
    let gate = Fault::on(Where::blobs().get().digest(layer));
    let gate = hub.fault(gate.does(What::Gate(Some(500_000))));
    let larder = Options::mirror_of(&hub).start().await;
    let (mut command, _home) = larder.command(&["warm", "app:1"]);
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut warm = command.spawn().unwrap();
    hub.wait_for(|asked| asked.iter().any(|asked| asked.body_sent() >= 500_000))
        .await;
    warm.kill().unwrap();
    warm.wait().unwrap();
    hub.open(gate);
    let name = layer.strip_prefix("sha256:").unwrap();
    let filled = |line: &str| line.contains(name) && line.contains("filled");
    while !larder.log().lines().any(filled) {
        larder.logged("filled").await;
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    hub.clear_log();
    assert_says(larder.run(&["warm", "app:1"]).await, &["here   app:1"]);
    assert_eq!(hub.blob_gets(), 0, "{:?}", hub.asked());
    larder.finish().await;
}
