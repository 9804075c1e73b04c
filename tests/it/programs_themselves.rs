//! The programs that other tests use do here what those rely on, against Debian's
//! `docker-registry` and without larder: when one of these fails, the cause is not in larder.

use std::path::Path;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::programs::{
    Buildah, Containerd, Distribution, DistributionOptions, Dockerd, DockerdOptions, File, Skopeo,
    TokenAuth,
};

/// User `larder`, password `secret`.
const HTPASSWD: &str = "larder:$2y$04$rXuXC3NYv1UIUs2rplXwieVKaX7GZaG.OLrKKdxQLVfueA87UDgp2\n";

/// A certificate that nobody has the key of: enough for a registry to start with.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBejCCAR+gAwIBAgIUIWtPilZfGocB/RVtfnWx4urArhUwCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGaXNzdWVyMCAXDTI2MTEyMTAxMzYyNloYDzIxMjYxMDI4MDEz
NjI2WjARMQ8wDQYDVQQDDAZpc3N1ZXIwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AAT4Bc2w7n/mEfiv3jQTWNHbAveJYmU8O8IaHSsGJ6uRATG3FsOqsGKJ85A9K+/R
6dg83jvjH30CaoZwRTR94ZJEo1MwUTAdBgNVHQ4EFgQUVA1Ujclx+QAlr03gFGzn
3fM6DdgwHwYDVR0jBBgwFoAUVA1Ujclx+QAlr03gFGzn3fM6DdgwDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEAi0YljXeC0r/nm6d1kYf9shNMVOZw
TmUeKSZJi1d/ZlICIQCwP74G1isbBLGIOp5whxYbJh1x7qg8yO3BcpJv9Zelbg==
-----END CERTIFICATE-----
";

const FILES: &[File<'static>] = &[("etc/greeting", b"hello\n"), ("bin/tool", &[7; 5000])];

async fn registry() -> Distribution {
    Distribution::start(&DistributionOptions::default()).await
}

/// A registry with one image of one layer; returns the image's identity too.
async fn registry_with(repository: &str) -> (Distribution, String) {
    let (registry, buildah) = (registry().await, Buildah::new());
    let id = buildah.build_scratch_image("localhost/made:1", FILES).await;
    buildah
        .push(
            "localhost/made:1",
            &format!("{}/{repository}", registry.address()),
        )
        .await;
    (registry, id)
}

/// The head of the answer to `GET /v2/`.
async fn ping(registry: &Distribution) -> String {
    let mut connection = TcpStream::connect(registry.address())
        .await
        .expect("it listens");
    connection
        .write_all(b"GET /v2/ HTTP/1.0\r\n\r\n")
        .await
        .expect("it reads");
    let mut answer = String::new();
    connection
        .read_to_string(&mut answer)
        .await
        .expect("it answers");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_pulls_the_image_that_docker_pushed() {
    let (registry, docker) = tokio::join!(registry(), Dockerd::without_mirror());
    let name = format!("{}/team/app:1", registry.address());
    let noise: Vec<u8> = (0..100_000_u32)
        .flat_map(|n| n.wrapping_mul(n).to_le_bytes())
        .collect();
    let layers: [&[File<'_>]; 4] = [FILES, &[("a", b"1")], &[("b", &noise)], &[("c", b"3")]];
    let built = docker.build_layered_image(&name, &layers).await;

    docker.push(&name).await;
    docker.remove_image(&name).await;
    let said = docker.pull(&name).await;

    assert!(said.contains("Downloaded newer image"), "{said}");
    assert_eq!(docker.image_id(&name).await, built);
    assert_eq!(docker.inspect(&name, "{{len .RootFS.Layers}}").await, "4");
    assert_eq!(docker.repo_digests(&name).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_takes_docker_hubs_images_from_its_mirror_and_from_nowhere_else() {
    let (registry, id) = registry_with("library/app:1").await;
    let docker = Dockerd::with_mirror(&registry.url()).await;

    docker.pull("app:1").await;

    assert_eq!(docker.image_id("app:1").await, id);
    assert!(
        registry
            .requests()
            .iter()
            .any(|r| r == "HEAD /v2/library/app/manifests/1 200"),
        "{:?}",
        registry.requests()
    );
    docker.tag("app:1", "other:1").await;
    docker.remove_image("app:1").await;
    assert_eq!(docker.image_id("other:1").await, id);

    registry.stop();
    let output = docker.try_pull("app:1").await;
    assert!(
        !output.success && output.stderr.contains("127.0.0.1:9: connect"),
        "{output:?}"
    );
    assert!(
        docker.log().contains("registry-1.docker.io"),
        "{}",
        docker.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn several_dockerds_run_at_once_each_with_its_own_images() {
    let settings = Map::from_iter([("max-download-attempts".to_owned(), json!(2))]);
    let with_settings = DockerdOptions {
        insecure: vec!["127.0.0.1:1".to_owned()],
        settings,
        environment: vec![("GODEBUG".to_owned(), "http2client=0".to_owned())],
        ..DockerdOptions::default()
    };
    let (one, two, three) = tokio::join!(
        Dockerd::without_mirror(),
        Dockerd::start(&with_settings),
        Dockerd::without_mirror()
    );

    one.build_scratch_image("app:1", FILES).await;

    assert_eq!(one.image_id("app:1").await.len(), "sha256:".len() + 64);
    assert!(!two.docker(&["image", "inspect", "app:1"]).await.success);
    assert!(!three.docker(&["image", "inspect", "app:1"]).await.success);
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_logs_in_to_a_registry_with_passwords() {
    let directory = tempfile::tempdir().unwrap();
    let htpasswd = directory.path().join("htpasswd");
    std::fs::write(&htpasswd, HTPASSWD).unwrap();
    let options = DistributionOptions {
        htpasswd: Some(htpasswd),
        ..DistributionOptions::default()
    };
    let (registry, docker) = tokio::join!(Distribution::start(&options), Dockerd::without_mirror());
    let name = format!("{}/team/app:1", registry.address());
    docker.build_scratch_image(&name, FILES).await;

    let refused = docker.try_push(&name).await;
    assert!(
        refused.stderr.contains("no basic auth credentials"),
        "{refused:?}"
    );
    docker.login(registry.address(), "larder", "secret").await;
    docker.push(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containerd_pulls_through_its_mirror_and_from_nowhere_else() {
    let (registry, id) = registry_with("library/app:1").await;
    let containerd = Containerd::with_mirror(&registry.url()).await;

    containerd.pull("docker.io/library/app:1").await;
    assert!(
        containerd.content_has(&id).await,
        "{:?}",
        containerd.content().await
    );
    assert_eq!(
        containerd.content().await.len(),
        3,
        "a manifest, a configuration and a layer"
    );
    let asked = registry.requests();
    assert!(
        asked
            .iter()
            .any(|r| r == "HEAD /v2/library/app/manifests/1?ns=docker.io 200"),
        "{asked:?}"
    );

    containerd.remove("docker.io/library/app:1").await;
    assert!(!containerd.content_has(&id).await, "{}", containerd.log());

    containerd.set_hosts("docker.io", "server = \"https://registry-1.docker.io\"\n");
    let output = containerd.try_pull("docker.io/library/app:1").await;
    assert!(
        !output.success && output.stderr.contains("127.0.0.1:9: connect"),
        "{output:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_copies_images_out_of_a_registry_and_back() {
    let (registry, id) = registry_with("team/app:1").await;
    let skopeo = Skopeo::new();
    let image = |tag: &str| format!("docker://{}/team/app:{tag}", registry.address());
    let directory = format!("dir:{}", skopeo.path("app").display());
    let layout = format!("oci:{}:app", skopeo.path("layout").display());

    skopeo.copy(&image("1"), &directory).await;
    skopeo.copy(&directory, &image("2")).await;
    skopeo.copy(&image("2"), &layout).await;
    skopeo
        .try_copy(&["--all"], &layout, &image("3"))
        .await
        .expect_success();

    let manifest = skopeo.raw_manifest(&image("1")).await;
    assert_eq!(skopeo.raw_manifest(&image("2")).await, manifest);
    let parsed: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(parsed["config"]["digest"], id);
    let said = skopeo.inspect(&image("1")).await;
    assert_eq!(said["Layers"].as_array().map(Vec::len), Some(1));
    let repository = format!("docker://{}/team/app", registry.address());
    let mut tags = skopeo.list_tags(&repository).await;
    tags.sort();
    assert_eq!(
        tags,
        ["1", "2", "3"],
        "Distribution 2.8 lists them in any order"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_and_buildah_ask_the_mirror_of_a_registry() {
    let (registry, id) = registry_with("docker.io/library/app:1").await;
    let location = format!("{}/docker.io", registry.address());
    let mirrors = [("docker.io", location.as_str())];

    let manifest = Skopeo::with_mirrors(&mirrors)
        .raw_manifest("docker://docker.io/app:1")
        .await;
    assert!(manifest.contains(&id), "{manifest}");
    let buildah = Buildah::with_mirrors(&mirrors);
    assert_eq!(buildah.pull("docker.io/library/app:1").await, id);

    registry.stop();
    let skopeo = Skopeo::with_mirrors(&mirrors);
    let output = skopeo.run(&["inspect", "docker://docker.io/app:1"]).await;
    assert!(
        !output.success && output.stderr.contains("127.0.0.1:9: connect"),
        "{output:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn buildah_pulls_the_image_that_buildah_pushed() {
    let registry = registry().await;
    let name = format!("{}/team/app:1", registry.address());
    let maker = Buildah::new();
    let id = maker.build_scratch_image("localhost/app:1", FILES).await;

    maker.push("localhost/app:1", &name).await;
    assert_eq!(Buildah::new().pull(&name).await, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_started_again_on_its_directory_has_its_images() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = DistributionOptions {
        root: Some(directory.path().to_owned()),
        delete: true,
        ..DistributionOptions::default()
    };
    let registry = Distribution::start(&options).await;
    assert_eq!(registry.root(), directory.path());
    let buildah = Buildah::new();
    buildah.build_scratch_image("localhost/app:1", FILES).await;
    buildah
        .push(
            "localhost/app:1",
            &format!("{}/team/app:1", registry.address()),
        )
        .await;
    let address = registry.address().to_owned();
    registry.stop();

    let blobs = directory.path().join("docker/registry/v2/blobs/sha256");
    let before = count_files(&blobs);
    let said = Distribution::garbage_collect(directory.path(), &[])
        .await
        .expect_success();
    assert!(said.contains("team/app"), "{said}");
    assert_eq!(count_files(&blobs), before, "nothing is garbage");

    options.port = address.rsplit_once(':').unwrap().1.parse().unwrap();
    let registry = Distribution::start(&options).await;
    assert_eq!(registry.address(), address);
    let image = format!("docker://{address}/team/app");
    assert_eq!(Skopeo::new().list_tags(&image).await, ["1"]);
    let deleted = Skopeo::new()
        .run(&["delete", "--tls-verify=false", &format!("{image}:1")])
        .await;
    assert!(deleted.success, "{deleted:?}\n{}", registry.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_with_token_authentication_names_its_token_service() {
    let directory = tempfile::tempdir().unwrap();
    let root_cert_bundle = directory.path().join("issuer.pem");
    std::fs::write(&root_cert_bundle, CERTIFICATE).unwrap();
    let token_auth = Some(TokenAuth {
        realm: "http://127.0.0.1:1/token".to_owned(),
        service: "upstream".to_owned(),
        issuer: "issuer".to_owned(),
        root_cert_bundle,
    });
    let options = DistributionOptions {
        token_auth,
        ..DistributionOptions::default()
    };

    let answer = ping(&Distribution::start(&options).await).await;

    assert!(answer.starts_with("HTTP/1.0 401"), "{answer}");
    let challenge = r#"Bearer realm="http://127.0.0.1:1/token",service="upstream""#;
    assert!(answer.contains(challenge), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_can_be_the_mirror_of_another() {
    let (upstream, id) = registry_with("library/app:1").await;
    let proxy = Some(upstream.url());
    let options = DistributionOptions {
        proxy,
        ..DistributionOptions::default()
    };
    let mirror = Distribution::start(&options).await;
    assert!(ping(&mirror).await.starts_with("HTTP/1.0 200"));

    let image = format!("docker://{}/library/app:1", mirror.address());

    assert!(Skopeo::new().raw_manifest(&image).await.contains(&id));
}

#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "address already in use")]
async fn a_program_that_cannot_start_says_why() {
    let first = registry().await;
    let port = first.address().rsplit_once(':').unwrap().1.parse().unwrap();

    Distribution::start(&DistributionOptions {
        port,
        ..DistributionOptions::default()
    })
    .await;
}

fn count_files(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { count_files(&path) } else { 1 })
        .sum()
}
