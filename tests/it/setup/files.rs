//! The files: shown, merged, kept.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use super::{assert_failed, put, read};
use crate::support::authority::{Authority, Pair};
use crate::support::hub::Hub;
use crate::support::programs::Options;
use crate::support::tree::files;

const DAEMON: &str = "etc/docker/daemon.json";

/// Everything below a root that is a copy of what was there.
fn copies(root: &Path) -> Vec<String> {
    let names = files(root).into_iter();
    let names = names.map(|path| path.display().to_string());
    names
        .filter(|name| name.contains(".before-larder-"))
        .collect()
}

#[tokio::test]
async fn what_is_said_is_for_this_server() {
    let hub = Hub::start().await;
    let larder = Options::mirror_of(&hub)
        .upstream("quay.io", &hub)
        .set(&["http", "addr"], json!("0.0.0.0:5123"))
        .set(&["http", "host"], json!("http://larder.lan:5123"))
        .rest();
    for (client, words) in [
        (
            "docker",
            &[
                "/etc/docker/daemon.json:",
                "\"registry-mirrors\": [\"http://larder.lan:5123\"]",
                "\"insecure-registries\": [\"larder.lan:5123\"]",
                "systemctl restart docker",
                "docker pull larder.lan:5123/quay.io/org/app",
            ][..],
        ),
        (
            "containerd",
            &[
                "/etc/containerd/certs.d/quay.io/hosts.toml:",
                "server = \"https://quay.io\"",
                "[host.\"http://larder.lan:5123\"]",
            ],
        ),
        (
            "podman",
            &["location = \"larder.lan:5123/quay.io\"", "insecure = true"],
        ),
        (
            "buildkit",
            &["mirrors = [\"larder.lan:5123/quay.io\"]", "http = true"],
        ),
        (
            "k3s",
            &["/etc/rancher/k3s/registries.yaml:", "  \"quay.io\":\n"],
        ),
    ] {
        let said = larder.run(&["setup", client]).await.expect_success();
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
    let named = ["setup", "docker", "--address", "https://mirror.lan"];
    let said = larder.run(&named).await.expect_success();
    assert!(
        said.contains("[\"https://mirror.lan\"]") && !said.contains("insecure"),
        "{said}"
    );
    let unknown = larder.run(&["setup", "crictl"]).await;
    assert_failed(&unknown, &["containerd", "k3s"]);
    assert!(!larder.root().exists(), "nothing is made");
}

#[tokio::test]
async fn a_machine_with_no_name_of_its_own_is_known_by_an_address_that_others_reach() {
    let larder = Options::registry()
        .set(&["http", "addr"], json!(":5123"))
        .rest();
    let said = larder.run(&["setup", "docker"]).await.expect_success();
    assert!(said.contains(":5123"), "{said}");
    // Or, where it has no network, it says so.
    let is_named = !said.contains("\"127.") && said.contains("is taken from this machine");
    assert!(
        is_named || said.contains("has no address that others reach"),
        "{said}"
    );
}

#[tokio::test]
async fn with_https_its_certificate_goes_with_it_and_never_its_key() {
    let authority = Authority::new("the tests");
    let pair = Pair::new(&authority.issue());
    let ca = Options::registry().rest();
    let path = ca.home().join("ca.pem");
    let key = std::fs::read_to_string(pair.key()).unwrap();
    std::fs::write(&path, format!("{key}\n{}", authority.certificate())).unwrap();
    let larder = Options::registry()
        .tls(&pair.certificate(), &pair.key(), authority.certificate())
        .set(&["http", "host"], json!("https://larder.lan"))
        .rest();
    let said = larder.run(&["setup", "docker"]).await.expect_success();
    assert!(said.contains("with --ca"), "{said}");
    let named = ["setup", "docker", "--ca", path.to_str().unwrap()];
    let said = larder.run(&named).await.expect_success();
    assert!(
        said.contains("/etc/docker/certs.d/larder.lan/ca.crt:"),
        "{said}"
    );
    assert!(
        said.contains(authority.certificate().trim()) && !said.contains("PRIVATE"),
        "{said}"
    );
}

#[tokio::test]
async fn a_file_is_merged_once_and_what_was_there_is_kept_beside_it() {
    let hub = Hub::start().await;
    let larder = Options::mirror_of(&hub)
        .set(&["http", "host"], json!("http://larder.lan:5000"))
        .rest();
    let root = larder.home().join("machine");
    let before =
        "{\n    \"log-driver\": \"journald\",\n    \"registry-mirrors\": [\"https://old\"]\n}\n";
    put(&root, DAEMON, before);
    let rights = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(root.join(DAEMON), rights).unwrap();
    let at = root.to_str().unwrap();
    let apply = ["setup", "docker", "--apply", "--root", at];
    let refused = larder.run(&apply).await;
    assert_failed(&refused, &["--yes"]);
    assert!(
        refused
            .stdout
            .contains("+    \"registry-mirrors\": [\"http://larder.lan:5000\", \"https://old\"]"),
        "{refused:?}"
    );
    assert_eq!(read(&root, DAEMON), before);
    assert_eq!(files(&root).len(), 1);

    let apply = [&apply[..], &["--yes"]].concat();
    let done = larder.run(&apply).await;
    assert!(
        done.success && done.stderr.contains("systemctl restart docker"),
        "{done:?}"
    );
    let diff = "-    \"registry-mirrors\": [\"https://old\"]\n";
    assert!(
        done.stdout.contains("@@") && done.stdout.contains(diff),
        "{done:?}"
    );
    let after: Value = serde_json::from_str(&read(&root, DAEMON)).unwrap();
    let expected = json!({
        "log-driver": "journald",
        "registry-mirrors": ["http://larder.lan:5000", "https://old"],
        "insecure-registries": ["larder.lan:5000"],
    });
    assert_eq!(after, expected);
    let mode = std::fs::metadata(root.join(DAEMON)).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o640, "its rights stay");
    let kept = copies(&root);
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(std::fs::read_to_string(&kept[0]).unwrap(), before);
    assert!(done.stderr.contains(&kept[0]), "{done:?}");

    let (text, again) = (read(&root, DAEMON), larder.run(&apply).await);
    assert!(
        again.success && again.stdout.contains("says so already"),
        "{again:?}"
    );
    assert_eq!((read(&root, DAEMON), copies(&root).len()), (text, 1));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named_with_its_line_and_nothing_is_changed() {
    let hub = Hub::start().await;
    let larder = Options::mirror_of(&hub)
        .upstream("quay.io", &hub)
        .set(&["http", "host"], json!("http://larder.lan:5000"))
        .rest();
    for (client, path, text, place) in [
        (
            "docker",
            DAEMON,
            "{\n  \"a\": 1,\n}\n",
            "daemon.json:3:1: not valid JSON",
        ),
        (
            "containerd",
            "etc/containerd/certs.d/quay.io/hosts.toml",
            "server = \"x\"\n[host\n",
            "hosts.toml:2:",
        ),
        (
            "podman",
            "etc/containers/registries.conf",
            "a = = 1\n",
            "registries.conf:1:5: not valid TOML",
        ),
        (
            "buildkit",
            "etc/buildkit/buildkitd.toml",
            "[a]\n[a]\n",
            "buildkitd.toml:2:",
        ),
        (
            "k3s",
            "etc/rancher/k3s/registries.yaml",
            "a: [\nb: c\n",
            "registries.yaml:",
        ),
        (
            "k3s",
            "etc/rancher/k3s/registries.yaml",
            "mirrors: {docker.io: {endpoint: [a]}}\n",
            "Add this yourself:",
        ),
        ("docker", DAEMON, "{\"a\": \"\u{fffd}\"}", ""),
    ] {
        let root = larder.home().join("machine");
        put(&root, path, text);
        if place.is_empty() {
            std::fs::write(root.join(path), b"{\n\"a\": \"\xff\"}").unwrap();
        }
        let before = std::fs::read(root.join(path)).unwrap();
        let at = root.to_str().unwrap();
        let output = larder
            .run(&["setup", client, "--apply", "--yes", "--root", at])
            .await;
        let place = if place.is_empty() {
            "daemon.json:2:7: not UTF-8"
        } else {
            place
        };
        assert_failed(&output, &[place, "othing has been changed"]);
        assert_eq!(std::fs::read(root.join(path)).unwrap(), before);
        assert_eq!(files(&root).len(), 1, "{client}: {:?}", files(&root));
        std::fs::remove_dir_all(&root).unwrap();
    }
}

#[tokio::test]
async fn where_a_file_cannot_be_written_there_is_nothing_new_beside_it() {
    let hub = Hub::start().await;
    let larder = Options::mirror_of(&hub)
        .set(&["http", "host"], json!("http://larder.lan:5000"))
        .rest();
    let root = larder.home().join("machine");
    put(&root, DAEMON, "{}");
    // In the place of what is written first, whoever one is.
    let in_the_way = root.join(format!("{DAEMON}.larder-part"));
    std::fs::create_dir(&in_the_way).unwrap();
    let at = root.to_str().unwrap();
    let apply = ["setup", "docker", "--apply", "--yes", "--root", at];
    assert_failed(&larder.run(&apply).await, &["cannot write"]);
    assert_eq!(read(&root, DAEMON), "{}");
    assert_eq!(copies(&root), Vec::<String>::new());
}

#[tokio::test]
async fn a_link_out_of_another_root_is_not_followed() {
    let hub = Hub::start().await;
    let larder = Options::mirror_of(&hub)
        .set(&["http", "host"], json!("http://larder.lan:5000"))
        .rest();
    let (root, outside) = (
        larder.home().join("machine"),
        larder.home().join("outside.json"),
    );
    std::fs::write(&outside, "{}").unwrap();
    put(&root, "etc/docker/real.json", "{}");
    let link = root.join(DAEMON);
    std::os::unix::fs::symlink(&outside, &link).unwrap();
    let at = root.to_str().unwrap();
    let apply = ["setup", "docker", "--apply", "--yes", "--root", at];
    assert_failed(&larder.run(&apply).await, &["is not below"]);
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "{}");
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("real.json", &link).unwrap();
    larder.run(&apply).await.expect_success();
    assert!(link.is_symlink(), "the link stays one");
    assert!(read(&root, "etc/docker/real.json").contains("larder.lan"));
}
