//! Where bundles are written to and read from: files of any name, links, pipes and devices.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::process::{Command, Stdio};

use super::*;

fn pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.expect("mkfifo").success());
}

fn is_pipe(path: &Path) -> bool {
    fs::symlink_metadata(path).unwrap().file_type().is_fifo()
}

#[tokio::test]
async fn what_is_no_file_is_never_replaced() {
    let carried = Carried::new().await;
    let (directory, device) = (carried.path("directory"), carried.path("device"));
    fs::create_dir(&directory).unwrap();
    pipe(&device);
    let link = carried.path("link-to-device");
    symlink(&device, &link).unwrap();
    for name in ["directory", "device", "link-to-device"] {
        for force in [&["app:1"][..], &["--force", "app:1"]] {
            let said = carried.try_export(name, force).await;
            assert!(
                !said.success && said.stderr.contains("is there, and is not a file"),
                "{said:?}"
            );
        }
    }
    assert!(is_pipe(&device) && directory.is_dir() && link.is_symlink());
    assert_eq!(tree::files(carried.home.path()).len(), 2, "no parts");
    carried.larder.finish().await;
}

#[tokio::test]
async fn a_link_leads_to_the_file_that_is_replaced() {
    let carried = Carried::new().await;
    let elsewhere = home();
    let (file, _) = carried.export("a.tar", &["app:1"]).await;
    let target = elsewhere.path().join("b.tar");
    fs::write(&target, "old").unwrap();
    let link = carried.path("link.tar");
    symlink(&target, &link).unwrap();
    let said = carried.try_export("link.tar", &["app:1"]).await;
    assert!(
        !said.success && said.stderr.contains("--force replaces it"),
        "{said:?}"
    );
    carried.export("link.tar", &["--force", "app:1"]).await;
    assert!(link.is_symlink());
    assert_eq!(fs::read(&target).unwrap(), fs::read(&file).unwrap());
    // One that leads nowhere is in the way, too.
    fs::remove_file(&target).unwrap();
    let said = carried.try_export("link.tar", &["app:1"]).await;
    assert!(!said.success, "{said:?}");
    carried.larder.finish().await;
}

#[tokio::test]
async fn the_bundle_that_another_builds_on_is_not_replaced_by_it() {
    let carried = Carried::new().await;
    let (first, _) = carried.export("first.tar", &["--all"]).await;
    let before = fs::read(&first).unwrap();
    symlink(&first, carried.path("link.tar")).unwrap();
    for name in ["first.tar", "link.tar"] {
        let since = ["--force", "--all", "--since", text(&first)];
        let said = carried.try_export(name, &since).await;
        assert!(
            !said.success && said.stderr.contains("write another file, and keep both"),
            "{said:?}"
        );
    }
    assert_eq!(fs::read(&first).unwrap(), before);
    // What is none is told apart by its name.
    let none = carried.path("none.tar");
    for content in [&b"no bundle"[..], &before[..1000], b""] {
        fs::write(&none, content).unwrap();
        let said = carried
            .try_export("second.tar", &["--all", "--since", text(&none)])
            .await;
        let named = said.stderr.contains(&format!("--since {}: ", text(&none)));
        assert!(!said.success && named, "{said:?}");
    }
    let said = carried
        .try_export("second.tar", &["--all", "--since", "nowhere.tar"])
        .await;
    assert!(
        !said.success && said.stderr.contains("--since nowhere.tar: cannot read it"),
        "{said:?}"
    );
    assert!(!carried.path("second.tar").exists());
    carried.larder.finish().await;
}

#[tokio::test]
async fn a_file_may_have_any_name() {
    let carried = Carried::new().await;
    for name in ["week 2: ö.tar", "-o.tar", "line\nend", "a.part"] {
        let (file, _) = carried.export(name, &["app:1"]).await;
        let there = home();
        import_all(there.path(), &file).await;
        assert_eq!(assert_whole(there.path()), 1, "{name}");
    }
    carried.larder.finish().await;
}

#[tokio::test]
async fn a_file_is_read_from_the_standard_input_and_a_pipe_is_told_what_to_do() {
    let carried = Carried::new().await;
    let (file, _) = carried.export("a.tar", &["--all"]).await;
    let there = home();
    let from = |input: Stdio| {
        let (mut command, home) = cut_off().tool_command(there.path(), &["import", "-"]);
        let output = command.stdin(input).output().expect("larder starts");
        drop(home);
        output
    };
    let output = from(File::open(&file).unwrap().into());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(assert_whole(there.path()), 2);
    let (read, _write) = std::io::pipe().unwrap();
    let output = from(read.into());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("-: it is not a file"),
        "{said}"
    );
    assert!(said.contains("to a file first"), "{said}");
    carried.larder.finish().await;
}
