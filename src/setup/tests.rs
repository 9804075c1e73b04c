use serde_json::{Value, json};

use super::*;

pub(super) fn about() -> About {
    let mirrored = |name: &str, server: &str| Mirrored {
        name: name.to_owned(),
        server: server.to_owned(),
    };
    About {
        address: "larder.lan:5000".to_owned(),
        https: false,
        ca: None,
        upstreams: vec![
            mirrored("docker.io", "https://registry-1.docker.io"),
            mirrored("ghcr.io", "https://ghcr.io"),
        ],
        default: Some("docker.io".to_owned()),
        asks_who: false,
    }
}

pub(super) fn secure() -> About {
    About {
        https: true,
        ca: Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----".to_owned()),
        ..about()
    }
}

pub(super) fn file(client: Client, about: &About, end: &str) -> FileText {
    let mut files = text(client, about).files.into_iter();
    files.find(|file| file.path.ends_with(end)).unwrap()
}

fn merge(client: Client, end: &str, before: &str) -> String {
    let file = file(client, &about(), end);
    let after = file.merged(before).unwrap();
    assert_eq!(file.merged(&after).as_ref(), Ok(&after), "twice is once");
    after
}

fn conflict(client: Client, end: &str, before: &str) -> String {
    match file(client, &about(), end).merged(before) {
        Err(MergeError::Conflict { problem, add }) => {
            assert!(add.contains("larder.lan:5000"), "{add}");
            problem
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_text_is_a_file_that_needs_nothing_more() {
    for about in [about(), secure()] {
        for client in texts(&about) {
            for file in &client.files {
                assert_eq!(file.merged(""), Ok(file.text.clone()), "{}", file.path);
                assert_eq!(file.merged("\n"), Ok(file.text.clone()), "{}", file.path);
                assert_eq!(
                    file.merged(&file.text),
                    Ok(file.text.clone()),
                    "{}",
                    file.path
                );
                assert!(file.text.ends_with('\n') && file.path.starts_with("/etc/"));
            }
            let shown: String = client.files.iter().map(|file| file.text.as_str()).collect();
            assert!(shown.contains("larder.lan:5000"), "{client:?}");
        }
    }
}

#[test]
fn the_texts_are_those_of_the_manual() {
    let docker = file(Client::Docker, &about(), "daemon.json").text;
    let expected = json!({
        "registry-mirrors": ["http://larder.lan:5000"],
        "insecure-registries": ["larder.lan:5000"],
    });
    assert_eq!(serde_json::from_str::<Value>(&docker).unwrap(), expected);
    assert_eq!(
        file(Client::Containerd, &about(), "docker.io/hosts.toml").text,
        "server = \"https://registry-1.docker.io\"\n\n[host.\"http://larder.lan:5000\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
    );
    let podman = file(Client::Podman, &about(), "registries.conf").text;
    assert!(podman.contains("location = \"larder.lan:5000/ghcr.io\"\ninsecure = true\n"));
    let k3s = file(Client::K3s, &about(), "registries.yaml").text;
    assert!(k3s.starts_with(
        "mirrors:\n  \"docker.io\":\n    endpoint:\n      - \"http://larder.lan:5000\"\n"
    ));
    let paths: Vec<_> = texts(&secure())
        .into_iter()
        .flat_map(|it| it.files)
        .collect();
    for path in [
        "/etc/docker/certs.d/larder.lan:5000/ca.crt",
        "/etc/containers/certs.d/larder.lan:5000/ca.crt",
        "/etc/rancher/larder.crt",
    ] {
        assert!(
            paths
                .iter()
                .any(|file| file.path == path && file.language == "pem"),
            "{path}"
        );
    }
    let local = About {
        address: "127.0.0.1:5000".to_owned(),
        ..about()
    };
    assert!(
        !file(Client::Docker, &local, "daemon.json")
            .text
            .contains("insecure")
    );
}

#[test]
fn a_larder_without_docker_hub_is_no_mirror_for_docker() {
    let plain = About {
        upstreams: Vec::new(),
        default: None,
        ..about()
    };
    let text = file(Client::Docker, &plain, "daemon.json").text;
    assert!(!text.contains("registry-mirrors"), "{text}");
    for client in texts(&plain) {
        assert!(client.notes[0].contains("mirrors nothing"), "{client:?}");
    }
}

#[test]
fn daemon_json_is_added_to_as_it_is_laid_out() {
    for (before, after) in [
        (
            "{\"log-level\": \"warn\"}",
            "{\"log-level\": \"warn\", \"registry-mirrors\": [\"http://larder.lan:5000\"], \"insecure-registries\": [\"larder.lan:5000\"]}",
        ),
        (
            "{\n\t\"mtu\": 1.50e3,\n\t\"registry-mirrors\": [\n\t\t\"https://old\"\n\t],\n\t\"insecure-registries\": []\n}\n",
            "{\n\t\"mtu\": 1.50e3,\n\t\"registry-mirrors\": [\n\t\t\"http://larder.lan:5000\",\n\t\t\"https://old\"\n\t],\n\t\"insecure-registries\": [\"larder.lan:5000\"]\n}\n",
        ),
        (
            "{\"registry-mirrors\": [\"http://larder.lan:5000/\"], \"insecure-registries\": null}",
            "{\"registry-mirrors\": [\"http://larder.lan:5000/\"], \"insecure-registries\": [\"larder.lan:5000\"]}",
        ),
        (
            "{ }\n",
            "{\n  \"registry-mirrors\": [\"http://larder.lan:5000\"],\n  \"insecure-registries\": [\"larder.lan:5000\"]\n}\n",
        ),
        (
            "\u{feff}{}",
            "\u{feff}{\n  \"registry-mirrors\": [\"http://larder.lan:5000\"],\n  \"insecure-registries\": [\"larder.lan:5000\"]\n}",
        ),
    ] {
        assert_eq!(merge(Client::Docker, "daemon.json", before), after);
    }
    let problem = |before| conflict(Client::Docker, "daemon.json", before);
    assert_eq!(
        problem("{\"registry-mirrors\": \"http://a\"}"),
        "registry-mirrors is not a list"
    );
    assert_eq!(
        problem("{\"registry-mirrors\": [], \"registry-mirrors\": []}"),
        "registry-mirrors is there twice"
    );
}

#[test]
fn what_cannot_be_read_is_said_with_its_line_and_column() {
    for (client, end, before, place) in [
        (Client::Docker, "daemon.json", "{\n  \"a\": 1,\n}", (3, 1)),
        (Client::Docker, "daemon.json", "[]", (1, 0)),
        (
            Client::Containerd,
            "ghcr.io/hosts.toml",
            "server = \"a\"\nhost = \n",
            (2, 8),
        ),
        (
            Client::Podman,
            "registries.conf",
            "é = 1\n[[registry]\n",
            (2, 12),
        ),
        (Client::Buildkit, "buildkitd.toml", "a = 1\na = 2\n", (2, 1)),
        (
            Client::K3s,
            "registries.yaml",
            "mirrors:\n  a: [b\nc: d\n",
            (3, 1),
        ),
        (Client::K3s, "registries.yaml", "a: 1\n---\nb: 2\n", (3, 1)),
    ] {
        match file(client, &about(), end).merged(before) {
            Err(MergeError::Unreadable {
                line,
                column,
                problem,
            }) => {
                assert!(
                    line == place.0 && (column == place.1 || client == Client::K3s),
                    "{before:?}: {line}:{column}: {problem}"
                );
                assert!(!problem.contains('\n'), "{problem}");
            }
            other => panic!("{before:?}: {other:?}"),
        }
    }
}

#[test]
fn hosts_toml_has_larder_first() {
    let merged = |before| merge(Client::Containerd, "ghcr.io/hosts.toml", before);
    let before = "# ours\nserver = \"https://other\" # stays\n\n# the old cache\n[host.\"https://old\"]\n  capabilities = [\"pull\"]\n  [host.\"https://old\".header]\n    x = \"y\"\n";
    let after = merged(before);
    let (own, old) = (
        after.find("larder.lan").unwrap(),
        after.find("[host.\"https://old\"]").unwrap(),
    );
    assert!(own < old, "{after}");
    for kept in [
        "# ours\nserver = \"https://other\" # stays",
        "# the old cache\n[host.",
        "    x = \"y\"\n",
    ] {
        assert!(after.contains(kept), "{after}");
    }
    assert_eq!(
        merged("# empty\n"),
        "server = \"https://ghcr.io\"\n# empty\n\n[host.\"http://larder.lan:5000\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
    );
    let after = merged("[host.\"http://larder.lan:5000\"]\n");
    assert!(
        after.contains("capabilities = [\"pull\", \"resolve\"]"),
        "{after}"
    );
    let problem = |before| conflict(Client::Containerd, "ghcr.io/hosts.toml", before);
    assert!(
        problem("[host.\"http://larder.lan:5000\"]\ncapabilities = [\"push\"]\n")
            .contains("capabilities")
    );
    assert!(problem("host = { a = 1 }\n").contains("tables"));
}

#[test]
fn registries_conf_keeps_what_it_says() {
    let merged = |before| merge(Client::Podman, "registries.conf", before);
    let comments = "# For more information, see containers-registries.conf(5).\nunqualified-search-registries = [\"docker.io\"]\n# the end\n";
    let after = merged(comments);
    assert!(after.starts_with(comments), "{after}");
    let before = "[[registry]]\nprefix = \"docker.io\" # hub\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"old.lan\" # old\n\n[aliases]\n\"a\" = \"b/a\"\n";
    let after = merged(before);
    let at = |text: &str| {
        after
            .find(text)
            .unwrap_or_else(|| panic!("{text}: {after}"))
    };
    assert!(at("larder.lan:5000/docker.io") < at("old.lan"), "{after}");
    assert!(at("# hub") < at("larder.lan:5000/docker.io"), "{after}");
    assert!(at("# old") < at("[aliases]") && at("[aliases]") < at("larder.lan:5000/ghcr.io"));
    let problem = |before| conflict(Client::Podman, "registries.conf", before);
    assert!(problem("[registries.search]\nregistries = [\"a\"]\n").contains("old format"));
    assert!(problem("[[registry]]\nlocation = \"ghcr.io\"\nblocked = true\n").contains("blocked"));
    assert!(problem("registry = [{ location = \"ghcr.io\" }]\n").contains("[[registry]]"));
    assert!(
        problem("[[registry]]\nlocation = \"larder.lan:5000\"\ninsecure = false\n")
            .contains("insecure")
    );
}

#[test]
fn buildkitd_toml_keeps_what_it_says() {
    let merged = |before| merge(Client::Buildkit, "buildkitd.toml", before);
    let before = "debug = true # yes\n[registry.\"docker.io\"]\n  mirrors = [\n    \"old\", # old\n  ]\n[worker.oci]\n  gc = true\n";
    let after = merged(before);
    for kept in [
        "debug = true # yes",
        "    \"old\", # old\n",
        "  gc = true\n",
        "    \"larder.lan:5000/docker.io\",\n",
        "http = true",
    ] {
        assert!(after.contains(kept), "{kept}: {after}");
    }
    let after = merged("[registry.\"ghcr.io\"]\nmirrors = [\"a\"]\n");
    assert!(
        after.contains("mirrors = [\"larder.lan:5000/ghcr.io\", \"a\"]"),
        "{after}"
    );
    let problem = |before| conflict(Client::Buildkit, "buildkitd.toml", before);
    assert!(problem("[registry.\"larder.lan:5000\"]\nhttp = false\n").contains("http"));
    assert!(problem("[registry.\"docker.io\"]\nmirrors = \"a\"\n").contains("list"));
    assert!(problem("registry = { a = { http = true } }\n").contains("tables"));
}

#[test]
fn registries_yaml_is_added_to_where_that_changes_nothing_else() {
    let merged = |before| merge(Client::K3s, "registries.yaml", before);
    let block = "\"ghcr.io\":\n    endpoint:\n      - \"http://larder.lan:5000\"\n";
    let before = "# k3s\nmirrors:\n  # the hub\n  docker.io: # here\n    endpoint:\n    - https://old # old\n    rewrite: {a: b}\nconfigs:\n  x: {}\n";
    assert_eq!(
        merged(before),
        format!(
            "# k3s\nmirrors:\n  {block}  # the hub\n  docker.io: # here\n    endpoint:\n    - \"http://larder.lan:5000\"\n    - https://old # old\n    rewrite: {{a: b}}\nconfigs:\n  x: {{}}\n"
        )
    );
    for before in [
        "# only\n",
        "mirrors:\n",
        "mirrors:\nconfigs:\n",
        "configs:\n  a:\n    auth: {username: u}",
        "mirrors:\n    docker.io:\n        endpoint: [\"https://old\", b]\n",
        "mirrors:\n    docker.io:\n        endpoint: []\n    ghcr.io:\n",
        "---\nmirrors:\n  ghcr.io:\n    endpoint:\n    rewrite:\n      a: b\n",
        "mirrors: &m\n  \"*\":\n    endpoint: [a]\nother: *m\n",
    ] {
        if before.contains("*m") {
            conflict(Client::K3s, "registries.yaml", before);
            continue;
        }
        let after = merged(before);
        for line in before.lines().filter(|line| !line.contains('[')) {
            assert!(after.lines().any(|it| it == line), "{line}: {after}");
        }
    }
    let problem = |before| conflict(Client::K3s, "registries.yaml", before);
    for before in [
        "mirrors: {docker.io: {endpoint: [a]}}\n",
        "{mirrors: {}}\n",
        "mirrors:\n  docker.io:\n    endpoint: https://old\n",
        "- a\n",
    ] {
        problem(before);
    }
}

#[test]
fn certificates_stand_beside_each_other() {
    let ca = file(Client::Docker, &secure(), "ca.crt");
    let other = "-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n";
    let both = ca.merged(other).unwrap();
    assert!(both.starts_with(other) && both.contains("AAAA"));
    assert_eq!(ca.merged(&both), Ok(both.clone()));
}

#[test]
fn lines_that_end_as_on_windows_still_do() {
    for (client, end, before) in [
        (Client::Docker, "daemon.json", "{\n}\n"),
        (Client::Docker, "daemon.json", "{\n  \"mtu\": 1400\n}"),
        (
            Client::Containerd,
            "ghcr.io/hosts.toml",
            "# ours\n[host.\"https://old\"]\n  capabilities = [\"pull\"]\n",
        ),
        (
            Client::Podman,
            "registries.conf",
            "# ours\n[[registry]]\nlocation = \"docker.io\"\n",
        ),
        (
            Client::Buildkit,
            "buildkitd.toml",
            "debug = true # yes\n[registry.\"docker.io\"]\n  mirrors = [\n    \"old\",\n  ]\n",
        ),
        (
            Client::K3s,
            "registries.yaml",
            "# k3s\nmirrors:\n  docker.io:\n    endpoint:\n    - https://old\n",
        ),
    ] {
        let windows = |text: &str| text.replace('\n', "\r\n");
        let after = merge(client, end, &windows(before));
        assert_eq!(after, windows(&merge(client, end, before)), "{client:?}");
    }
}
