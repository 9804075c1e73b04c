//! Importing beside a server, beside another import, beside a collection, and being killed at it.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;
use crate::registry::assert_pullable;

/// Images that share layers, some of them large enough to be killed in.
async fn many(carried: &Carried, count: u64) -> PathBuf {
    for seed in 0..count {
        let image = Image::random(40 + seed / 2, &[700_000, 900_000, 30_000]);
        let image = if seed % 2 == 0 { image } else { image.oci() };
        carried
            .larder
            .push(&format!("many/i{seed}"), "1", &image)
            .await;
    }
    let children = [
        (Image::random(90, &[500_000]), "amd64"),
        (Image::random(91, &[600_000]), "arm64"),
    ];
    carried
        .mirror("library/many", "1", &Image::index(children.into()))
        .await;
    let (file, _) = carried.export("many.tar", &["--all"]).await;
    file
}

#[tokio::test]
async fn a_tag_can_be_pulled_at_once_from_the_server_beside() {
    let carried = Carried::new().await;
    let (file, _) = carried.export("class.tar", &["--all"]).await;
    let there = home();
    let larder = cut_off().on(there.path()).start().await;
    // It has asked for both, and remembers that they are not there.
    for (name, tag) in [("library/app", "1"), ("team/own", "2")] {
        let got = larder.get(&format!("/v2/{name}/manifests/{tag}")).await;
        assert_ne!(got.status, 200);
    }
    larder.tool(&["import", text(&file)]).await.expect_success();
    for (name, tag, image) in [
        ("library/app", "1", mirrored()),
        ("team/own", "2", pushed()),
    ] {
        assert_pullable(&larder, name, tag, &image).await;
    }
    assert!(
        there.path().join("larder.beside").is_file(),
        "the server was told"
    );
    let said = larder.tool(&["import", text(&file)]).await;
    assert!(said.stderr.contains("0 blobs stored"), "{said:?}");
    larder.finish().await;
    carried.larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_imports_a_server_that_fills_the_same_a_repair_and_a_collection_do_no_damage() {
    let carried = Carried::new().await;
    let file = many(&carried, 6).await;
    let there = home();
    let larder = Options::mirror_of(&carried.hub)
        .on(there.path())
        .start()
        .await;
    for round in 0..3 {
        let (first, _one) = larder.tool_command(&["import", "--force", text(&file)]);
        let (second, _two) = larder.tool_command(&["import", "--force", text(&file)]);
        let mut running: Vec<_> = [first, second]
            .into_iter()
            .map(|mut import| {
                let import = import.stdout(Stdio::piped()).stderr(Stdio::piped());
                import.spawn().expect("larder starts")
            })
            .collect();
        while running
            .iter_mut()
            .any(|import| import.try_wait().unwrap().is_none())
        {
            pull(&larder, "library/app", "1").await;
            pull(&larder, "library/many", "1").await;
            larder
                .garbage_collect(&["-q", "-m", "--grace", "0s"])
                .await
                .expect_success();
            let repaired = larder.run(&["verify", "--repair"]).await.expect_success();
            assert!(repaired.contains("nothing is wrong"), "{repaired}");
        }
        for import in running {
            let output = import.wait_with_output().unwrap();
            assert!(output.status.success(), "{round}: {output:?}");
        }
        larder
            .garbage_collect(&["-q", "-m", "--grace", "0s"])
            .await
            .expect_success();
        assert_eq!(assert_whole(there.path()), 9, "round {round}");
        if round < 2 {
            for seed in 0..6 {
                let path = format!("/v2/many/i{seed}/manifests/1");
                let digest = larder
                    .head(&path)
                    .await
                    .header("docker-content-digest")
                    .to_owned();
                let path = format!("/v2/many/i{seed}/manifests/{digest}");
                let delete = larder.request("DELETE", &path);
                assert_eq!(larder.send(delete).await.status, 202);
            }
        }
    }
    larder.finish().await;
    carried.larder.finish().await;
}

#[tokio::test]
async fn an_import_that_is_killed_leaves_no_name_for_something_that_is_not_whole() {
    let carried = Carried::new().await;
    let file = many(&carried, 8).await;
    let there = home();
    let mut last = 0;
    for round in 0..14 {
        let arguments = ["import", text(&file)];
        let (mut import, _home) = cut_off().tool_command(there.path(), &arguments);
        let import = import.stdout(Stdio::null()).stderr(Stdio::null());
        let mut import = import.spawn().expect("larder starts");
        // Wherever it is by then.
        tokio::time::sleep(Duration::from_millis(5 + 23 * round)).await;
        drop(import.kill());
        import.wait().expect("our own child");
        let tags = assert_whole(there.path());
        assert!(tags >= last, "what was imported stays");
        last = tags;
    }
    import_all(there.path(), &file).await;
    assert_eq!(assert_whole(there.path()), 11);
    // A killed one may leave staged files, which the server sweeps up when they are old.
    let larder = cut_off().on(there.path()).start().await;
    for seed in 0..8 {
        pull(&larder, &format!("many/i{seed}"), "1").await;
    }
    pull(&larder, "library/many", "1").await;
    larder.finish_with_parts().await;
    carried.larder.finish().await;
}

#[tokio::test]
async fn an_export_that_is_interrupted_leaves_nothing() {
    let carried = Carried::new().await;
    let large = Image::random(11, &[9_000_000, 9_000_000, 9_000_000]);
    carried.larder.push("team/large", "1", &large).await;
    let path = carried.path("large.tar");
    let part = carried.path("large.tar.part");
    let export = ["export", "-o", text(&path), "team/large:1"];
    let (export, home) = carried.larder.tool_command(&export);
    // A disk that is slow enough for an interruption to come while it is written to. It is traced
    // by somebody else's child, so that the signal reaches the export.
    let mut slow = Command::new("strace");
    slow.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64"])
        .args(["-e", "inject=pwrite64:delay_enter=50000"])
        .arg(export.get_program())
        .args(export.get_args())
        .current_dir(home.path());
    let mut export = slow.stderr(Stdio::piped()).spawn().unwrap();
    while !part.exists() {
        assert!(export.try_wait().unwrap().is_none(), "it ended too early");
        std::thread::sleep(Duration::from_micros(100));
    }
    let pid = rustix::process::Pid::from_child(&export);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = export.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("interrupted"),
        "{said}"
    );
    assert!(!path.exists() && !part.exists());
    // One that was killed leaves its part, and the next takes it over.
    std::fs::write(&part, b"half").unwrap();
    carried.export("large.tar", &["team/large:1"]).await;
    assert!(path.exists() && !part.exists());
    carried.larder.finish().await;
}
