//! No network at all: in a namespace of its own, whose only interface is the loopback and whose
//! name server never answers.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::process::Command;

use serde_json::json;

use super::{is_quick, waits_once};
use crate::support::hub::Hub;
use crate::support::image::Image;
use crate::support::programs::{Dockerd, Options};

const INNER: &str = "LARDER_TEST_WITHOUT_NETWORK";
const APP: &str = "/v2/library/app/manifests/1";

/// Nothing of the outside is left but a name server that listens.
const ENTER: &str = r#"
ip link set lo up
echo nameserver 127.0.0.1 > "$LARDER_TEST_WITHOUT_NETWORK"
mount --bind "$LARDER_TEST_WITHOUT_NETWORK" /etc/resolv.conf
exec "$0" "$@"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn docker_pulls_a_cached_image_where_there_is_neither_network_nor_dns() {
    if std::env::var_os(INNER).is_some() {
        return inside().await;
    }
    let resolv_conf = tempfile::NamedTempFile::new().unwrap();
    let mut child = Command::new("unshare");
    child
        .args(["--net", "--mount", "sh", "-e", "-c", ENTER])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--nocapture",
            "--exact",
            "offline::namespace::docker_pulls_a_cached_image_where_there_is_neither_network_nor_dns",
        ])
        .env(INNER, resolv_conf.path());
    let output = tokio::task::spawn_blocking(move || child.output());
    let output = output.await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}");
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

async fn inside() {
    let names = UdpSocket::bind("127.0.0.1:53").unwrap();
    names.set_nonblocking(true).unwrap();
    let is_asked = || {
        let mut asked = false;
        loop {
            match names.recv(&mut [0; 512]) {
                Ok(_) => asked = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return asked,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let hub = Hub::start().await;
    let image = Image::random(1, &[300_000, 3000]);
    hub.push("library/app", "1", &image);
    let direct = "registry.example.com,127.0.0.1";
    let options = Options::mirror_of(&hub).never_fresh();
    let options = options.environment("NO_PROXY", direct);
    let mut larder = options.environment("no_proxy", direct).start().await;
    let docker = Dockerd::with_mirror(&larder.url()).await;
    docker.pull("app:1").await;
    // The upstream is somewhere else from now on, and nobody says where.
    hub.down().await;
    larder.kill().await;
    let url = json!("http://registry.example.com");
    larder.reconfigure(&["upstreams", "docker.io", "url"], url);
    larder.start_again().await;
    waits_once(&larder, APP).await;
    is_quick(&larder, APP, "stale").await;
    assert!(is_asked(), "the name server was the one in here");
    docker.remove_image("app:1").await;
    docker.pull("app:1").await;
    assert_eq!(docker.image_id("app:1").await, image.config_digest());
    // Offline it does not even ask for a name, after a restart and after another one. What the
    // system's resolver had begun to ask before, it asks again by itself: that ends here.
    let said = larder.run(&["offline", "on"]).await.expect_success();
    assert!(said.starts_with("on"), "{said}");
    larder.kill().await;
    is_asked();
    larder.start_again().await;
    for _ in 0..2 {
        is_quick(&larder, APP, "hit").await;
        docker.remove_image("app:1").await;
        docker.pull("app:1").await;
        assert_eq!(docker.image_id("app:1").await, image.config_digest());
        assert_eq!(larder.get("/v2/library/cold/manifests/1").await.status, 404);
        larder.kill().await;
        larder.start_again().await;
    }
    assert!(!is_asked(), "{}", larder.log());
    assert!(
        !docker.log().contains("registry-1.docker.io"),
        "{}",
        docker.log()
    );
    larder.finish().await;
}
