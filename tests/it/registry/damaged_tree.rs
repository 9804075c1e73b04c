//! A data directory that others have touched, or that a power cut has torn: what cannot be read is
//! absent, nothing hangs, and pushing again heals it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::{assert_refused, push_small};
use crate::support::image::sha256;
use crate::support::programs::{Larder, Options};
use crate::support::tree::files;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a repository's link to a digest is, under `_layers` or `_manifests/revisions`.
fn link(larder: &Larder, name: &str, kind: &str, digest: &str) -> PathBuf {
    let digest = digest.replace(':', "/");
    larder
        .tree()
        .join(format!("repositories/{name}/{kind}/{digest}/link"))
}

fn data(larder: &Larder, digest: &str) -> PathBuf {
    let hex = &digest[7..];
    larder
        .tree()
        .join(format!("blobs/sha256/{}/{hex}/data", &hex[..2]))
}

/// The paths of a small image `a:v1`: its tag, manifest and config, each by what it needs.
struct Files {
    tag: PathBuf,
    revision: PathBuf,
    layer: PathBuf,
    manifest_data: PathBuf,
    config_data: PathBuf,
    manifest: String,
    config: String,
}

async fn with_image(larder: &Larder) -> Files {
    let manifest = sha256(&push_small(larder, "a", "v1", "{}").await);
    let config = sha256(b"{}");
    Files {
        tag: larder
            .tree()
            .join("repositories/a/_manifests/tags/v1/current/link"),
        revision: link(larder, "a", "_manifests/revisions", &manifest),
        layer: link(larder, "a", "_layers", &config),
        manifest_data: data(larder, &manifest),
        config_data: data(larder, &config),
        manifest,
        config,
    }
}

impl Files {
    /// The requests that need a file, each with the code of its refusal when the file is absent.
    fn needing(&self, file: &Path) -> Vec<(String, &'static str)> {
        let by_tag = "/v2/a/manifests/v1".to_owned();
        let by_digest = format!("/v2/a/manifests/{}", self.manifest);
        let config = format!("/v2/a/blobs/{}", self.config);
        if file == self.tag {
            vec![(by_tag, "MANIFEST_UNKNOWN")]
        } else if file == self.layer || file == self.config_data {
            vec![(config, "BLOB_UNKNOWN")]
        } else {
            vec![
                (by_tag, "MANIFEST_UNKNOWN"),
                (by_digest, "MANIFEST_UNKNOWN"),
            ]
        }
    }

    fn all(&self) -> [PathBuf; 5] {
        let files = [
            &self.tag,
            &self.revision,
            &self.layer,
            &self.manifest_data,
            &self.config_data,
        ];
        files.map(Clone::clone)
    }
}

/// With `file` put out of order by `damage`: whatever needs it is absent, everything else is
/// answered as ever, and a push heals it.
async fn absent_and_healed(larder: &Larder, image: &Files, file: &Path, damage: impl Fn(&Path)) {
    fs::remove_file(file).expect("a file to damage");
    damage(file);
    let checked = tokio::time::timeout(PATIENCE, absent_then_healed(larder, image, file)).await;
    assert!(checked.is_ok(), "{} hangs somebody", file.display());
}

async fn absent_then_healed(larder: &Larder, image: &Files, file: &Path) {
    let shown = file.display();
    for (path, code) in image.needing(file) {
        assert_refused(&larder.get(&path).await, 404, code);
        assert_eq!(larder.head(&path).await.status, 404, "{shown}");
    }
    for path in ["/v2/_catalog", "/v2/a/tags/list"] {
        assert_eq!(larder.get(path).await.status, 200, "{shown}");
    }
    if file.is_dir() {
        fs::remove_dir(file).expect("the test's own directory");
    }
    push_small(larder, "a", "v1", "{}").await;
    for (path, _) in image.needing(file) {
        assert_eq!(larder.get(&path).await.status, 200, "{shown}: {path}");
    }
}

#[tokio::test]
async fn a_link_that_holds_no_digest_is_absent_and_logged() {
    let larder = Options::registry().start().await;
    let image = with_image(&larder).await;
    for file in [&image.tag, &image.revision, &image.layer] {
        for text in [
            "",
            "sha256:",
            &image.config[..40],
            "nonsense",
            "\0\0\0",
            "../../../etc/passwd",
        ] {
            absent_and_healed(&larder, &image, file, |path| {
                fs::write(path, text).expect("a file");
            })
            .await;
        }
        let endless = "x".repeat(1 << 20);
        absent_and_healed(&larder, &image, file, |path| {
            fs::write(path, &endless).unwrap();
        })
        .await;
        assert!(
            larder.log().contains(&*file.to_string_lossy()),
            "{}",
            larder.log()
        );
    }
    larder.finish().await;
}

#[tokio::test]
async fn stored_content_that_lost_its_bytes_is_absent_and_logged() {
    let larder = Options::registry().start().await;
    let image = with_image(&larder).await;
    for (file, digest) in [
        (&image.config_data, &image.config),
        (&image.manifest_data, &image.manifest),
    ] {
        absent_and_healed(&larder, &image, file, |path| {
            fs::write(path, "").expect("a file");
        })
        .await;
        assert!(larder.log().contains(digest.as_str()), "{}", larder.log());
    }
    larder.finish().await;
}

#[tokio::test]
async fn what_is_no_file_is_absent_and_hangs_nobody() {
    let larder = Options::registry().start().await;
    let image = with_image(&larder).await;
    let secret = larder.root().join("secret");
    fs::write(&secret, &image.config).unwrap();
    for file in image.all() {
        // To something that would do, were it not for the way there.
        absent_and_healed(&larder, &image, &file, |path| {
            symlink(&secret, path).unwrap();
        })
        .await;
        absent_and_healed(&larder, &image, &file, |path| {
            symlink("nowhere", path).unwrap();
        })
        .await;
        absent_and_healed(&larder, &image, &file, |path| symlink(path, path).unwrap()).await;
        absent_and_healed(&larder, &image, &file, |path| fs::create_dir(path).unwrap()).await;
        absent_and_healed(&larder, &image, &file, make_pipe).await;
        absent_and_healed(&larder, &image, &file, |_| ()).await;
    }
    larder.finish().await;
}

fn make_pipe(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.expect("coreutils").success());
}

#[tokio::test]
async fn a_damaged_manifest_is_not_served_and_heals_by_a_push() {
    let larder = Options::registry().start().await;
    let image = with_image(&larder).await;
    let sound = fs::read_to_string(&image.manifest_data).unwrap();
    fs::write(
        &image.manifest_data,
        sound.replace("schemaVersion", "schemaversion"),
    )
    .unwrap();
    assert_refused(
        &larder.get("/v2/a/manifests/v1").await,
        404,
        "MANIFEST_UNKNOWN",
    );
    push_small(&larder, "a", "v1", "{}").await;
    assert_eq!(
        larder.get("/v2/a/manifests/v1").await.body,
        sound.as_bytes()
    );
    larder.finish().await;
}

#[tokio::test]
async fn foreign_files_are_passed_over() {
    let larder = Options::registry().start().await;
    with_image(&larder).await;
    push_small(&larder, "z/y", "v1", "{}").await;
    let repositories = larder.tree().join("repositories");
    let tags = repositories.join("a/_manifests/tags");
    fs::write(repositories.join(".DS_Store"), "x").unwrap();
    fs::write(repositories.join("a/README"), "x").unwrap();
    fs::create_dir_all(repositories.join("lost+found/x/_manifests")).unwrap();
    fs::create_dir_all(repositories.join("UPPER/_manifests")).unwrap();
    fs::create_dir_all(repositories.join("a/.snapshot/_manifests")).unwrap();
    fs::write(tags.join("a-file"), "x").unwrap();
    fs::create_dir_all(tags.join("-not-a-tag/current")).unwrap();
    fs::create_dir_all(tags.join("no-link/current")).unwrap();
    make_pipe(&repositories.join("pipe"));
    make_pipe(&tags.join("pipe"));
    // Ways round in circles, of which there are more at every turn.
    for name in ["circle", "another", "third"] {
        symlink(".", repositories.join(name)).unwrap();
        symlink("..", repositories.join("a").join(name)).unwrap();
    }
    let catalog = larder.get("/v2/_catalog").await;
    assert_eq!(
        (catalog.status, catalog.json()),
        (200, json!({"repositories": ["a", "z/y"]}))
    );
    assert_eq!(
        larder.get("/v2/a/tags/list").await.json()["tags"],
        json!(["v1"])
    );
    assert_eq!(larder.get("/v2/pipe/tags/list").await.status, 404);
    for name in ["circle", "another", "third"] {
        fs::remove_file(repositories.join(name)).unwrap();
        fs::remove_file(repositories.join("a").join(name)).unwrap();
    }
    larder.finish().await;
}

#[tokio::test]
async fn a_tree_that_is_removed_while_it_is_served_is_empty_and_takes_pushes() {
    let larder = Options::registry().start().await;
    let image = with_image(&larder).await;
    fs::remove_dir_all(larder.root().join("docker")).unwrap();
    for file in image.all() {
        for (path, code) in image.needing(&file) {
            assert_refused(&larder.get(&path).await, 404, code);
        }
    }
    assert_refused(&larder.get("/v2/a/tags/list").await, 404, "NAME_UNKNOWN");
    assert_eq!(
        larder.get("/v2/_catalog").await.json(),
        json!({"repositories": []})
    );
    push_small(&larder, "a", "v1", "{}").await;
    assert_eq!(larder.get("/v2/a/manifests/v1").await.status, 200);
    larder.finish().await;
}

/// Gives a file or directory a time of last change that lies some days back.
pub(super) fn age(path: &Path) {
    let then = SystemTime::now() - Duration::from_hours(9 * 24);
    let file = fs::File::open(path).unwrap();
    file.set_modified(then).unwrap();
}

#[tokio::test]
async fn what_crashes_and_vanished_clients_left_is_swept_up_once_it_is_old() {
    let mut larder = Options::registry().start().await;
    let image = with_image(&larder).await;
    let old = super::open_upload(&larder, "a").await;
    let sent = super::patch(&larder, &old, b"never finished").await;
    assert_eq!(sent.status, 202);
    let young = super::open_upload(&larder, "a").await;
    larder.kill().await;
    let id = &old[old.rfind('/').unwrap() + 1..old.find('?').unwrap()];
    let session = larder.tree().join("repositories/a/_uploads").join(id);
    for file in files(&session) {
        age(&file);
    }
    age(&session);
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    let leftovers = [
        image.tag.with_file_name(format!("link.{id}.tmp")),
        image.config_data.with_file_name(format!("data.{id}.tmp")),
    ];
    for path in &leftovers {
        fs::write(path, "sha256:").unwrap();
        age(path);
    }
    larder.start_again().await;
    larder.logged("swept up leftovers").await;
    assert!(!session.exists() && !leftovers.iter().any(|path| path.exists()));
    assert_refused(&larder.get(&old).await, 404, "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(super::cancel_upload(&larder, &young).await.status, 204);
    assert_eq!(larder.get("/v2/a/manifests/v1").await.status, 200);
    larder.finish().await;
}

#[tokio::test]
async fn a_purge_that_is_only_tried_says_what_would_go_and_removes_nothing() {
    let purging =
        serde_json::json!({ "enabled": true, "age": "24h", "interval": "24h", "dryrun": true });
    let options = Options::registry().set(&["storage", "maintenance", "uploadpurging"], purging);
    let mut larder = options.start().await;
    let old = super::open_upload(&larder, "a").await;
    larder.kill().await;
    let session = larder
        .tree()
        .join("repositories/a/_uploads")
        .join(super::id_of(&old));
    for file in files(&session) {
        age(&file);
    }
    age(&session);
    // What a crash left of a small file goes all the same.
    let torn = larder
        .tree()
        .join("blobs/data.01890a5d-ac96-774b-bcce-b302099a8057.tmp");
    fs::create_dir_all(torn.parent().unwrap()).unwrap();
    fs::write(&torn, "sha256:").unwrap();
    age(&torn);
    larder.start_again().await;
    larder.logged("would remove").await;
    larder.logged("swept up leftovers").await;
    assert_eq!(super::cancel_upload(&larder, &old).await.status, 204);
    larder.finish().await;
}
