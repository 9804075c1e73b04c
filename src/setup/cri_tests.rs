use super::tests::about;
use super::*;

/// What is done to a config.toml of containerd's.
fn cri(before: &str) -> Result<String, MergeError> {
    let mut additions = text(Client::Containerd, &about()).additions.into_iter();
    let file = additions.next().unwrap().file;
    let after = file.merged(before)?;
    assert_eq!(file.merged(&after).as_ref(), Ok(&after), "twice is once");
    Ok(after)
}

#[test]
fn containerd_is_told_to_read_the_hosts_where_it_does_not() {
    const OURS: &str = "config_path = \"/etc/containerd/certs.d\"";
    // Debian's.
    let debian = "version = 2\n\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    [plugins.\"io.containerd.grpc.v1.cri\".cni]\n      bin_dir = \"/usr/lib/cni\"\n";
    let block = format!("\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  {OURS}\n");
    assert_eq!(cri(debian).unwrap(), format!("{debian}{block}"));
    // As `containerd config default` prints it, 1.6 and 2.0.
    let empty = "version = 2\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    [plugins.\"io.containerd.grpc.v1.cri\".registry]\n      config_path = \"\" # none\n\n      [plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors]\n";
    let set = empty.replace("config_path = \"\"", OURS);
    assert_eq!(cri(empty), Ok(set));
    let empty = "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = ''\n[plugins.'io.containerd.grpc.v1.cri']\n  disable_tcp_service = true\n";
    let set = empty.replace("config_path = ''", OURS);
    assert_eq!(cri(empty), Ok(set));
    // 2.2 and later: a list that is read as one name.
    let list = "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = '/etc/containerd/certs.d:/etc/docker/certs.d'\n";
    let set = format!("version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n  {OURS}\n");
    assert_eq!(cri(list), Ok(set));
    // Without a key, with its neighbours' indentation; and where nothing has a header.
    let nested = "version = 4\n[plugins]\n  [plugins.'io.containerd.cri.v1.images'.registry]\n    # nothing\n    [plugins.'io.containerd.cri.v1.images'.registry.headers]\n";
    let after = cri(nested).unwrap();
    let line = format!(".registry]\n    {OURS}\n");
    assert!(
        after.contains(&line) && after.contains("# nothing"),
        "{after}"
    );
    for (before, header) in [
        ("version = 3 # new\n", "\"io.containerd.cri.v1.images\""),
        ("[grpc]\n  gid = 0", "cri"),
        (
            "version = 2\n[plugins.\"io.containerd.cri.v1.images\"]\n",
            "\"io.containerd.cri.v1.images\"",
        ),
        (
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.configs.\"a.lan\".auth]\nusername = \"u\"\n",
            "\"io.containerd.grpc.v1.cri\"",
        ),
    ] {
        let after = cri(before).unwrap();
        let block = format!("\n\n[plugins.{header}.registry]\n  {OURS}\n");
        let expected = format!("{}{block}", before.trim_end());
        assert_eq!(after, expected);
    }
}

#[test]
fn a_containerd_that_reads_the_hosts_or_has_no_kubernetes_stays_as_it_is() {
    let registry = |version: u8, plugin: &str, path: &str| {
        format!("version = {version}\n[plugins.\"{plugin}\".registry]\nconfig_path = {path}\n")
    };
    let (old, new) = ("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images");
    let list = "'/etc/containerd/certs.d:/etc/docker/certs.d'";
    for before in [
        registry(2, old, "\"/etc/containerd/certs.d\""),
        registry(2, old, "\"/etc/containerd/certs.d/\""),
        registry(2, old, list),
        registry(3, new, "'/etc/containerd/certs.d'"),
        format!(
            "{}[plugins.\"{new}\"]\nuse_local_image_pull = true\n",
            registry(3, new, list)
        ),
        // Docker's packages bring this one.
        "#   comments\n\ndisabled_plugins = [\"cri\"]\n".to_owned(),
        format!("version = 2\ndisabled_plugins = ['{old}']\n"),
    ] {
        assert_eq!(cri(&before), Ok(before.clone()));
    }
}

#[test]
fn what_containerd_would_not_start_with_is_left_to_a_person() {
    let old = "plugins.\"io.containerd.grpc.v1.cri\".registry";
    let new = "plugins.\"io.containerd.cri.v1.images\".registry";
    for (before, words) in [
        (
            format!("version = 2\n[{old}.mirrors.\"docker.io\"]\nendpoint = [\"https://a\"]\n"),
            "registry.mirrors",
        ),
        (
            format!(
                "version = 2\n[{old}]\nconfig_path = \"\"\n[{old}.configs.\"a\".tls]\nca_file = \"b\"\n"
            ),
            "registry.configs",
        ),
        (
            format!("version = 2\n[{old}]\nconfig_path = \"/etc/other\"\n"),
            "one of them has to move",
        ),
        (
            format!("version = 3\n[{new}]\nconfig_path = \"/etc/containerd/certs.d:/etc/other\"\n"),
            "the name of one directory",
        ),
        (
            format!("version = 2\n[{old}]\nconfig_path = 1\n"),
            "not a text",
        ),
        ("version = 5\n".to_owned(), "version 5"),
        ("version = \"2\"\n".to_owned(), "not a number"),
        ("version = 2\nplugins = {}\n".to_owned(), "tables"),
    ] {
        match cri(&before) {
            Err(MergeError::Conflict { problem, add }) => {
                assert!(problem.contains(words), "{before}: {problem}");
                let line = "config_path = \"/etc/containerd/certs.d\"";
                assert!(add.contains(line), "{add}");
            }
            other => panic!("{before}: {other:?}"),
        }
    }
}
