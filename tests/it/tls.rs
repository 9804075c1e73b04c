//! HTTPS: the certificate, its renewal, clients' certificates, and clients that do not fit.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::authority::{Authority, Issued, Pair};
use crate::support::image::Image;
use crate::support::programs::{Dockerd, File, Htpasswd, Larder, Options, Skopeo, client_trusting};

const FILES: &[File<'static>] = &[("etc/greeting", b"hello\n")];

/// An authority, and a server's certificate of it.
fn authority() -> (Authority, Pair) {
    let authority = Authority::new("the tests");
    let pair = Pair::new(&authority.issue());
    (authority, pair)
}

fn options(authority: &Authority, pair: &Pair) -> Options {
    Options::registry().tls(&pair.certificate(), &pair.key(), authority.certificate())
}

/// The certificate that a new connection is shown.
async fn shown(larder: &Larder, authority: &Authority) -> Vec<u8> {
    let client = client_trusting(Some(authority.certificate())).build();
    let request = client.unwrap().get(format!("{}/v2/", larder.url()));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let tls = answer.extensions().get::<reqwest::tls::TlsInfo>().unwrap();
    tls.peer_certificate().unwrap().to_vec()
}

/// Whether a new client with this certificate gets an answer.
async fn is_served(larder: &Larder, authority: &Authority, own: Option<&Issued>) -> bool {
    let mut client = client_trusting(Some(authority.certificate()));
    if let Some(own) = own {
        let pem = format!("{}{}", own.certificate, own.key);
        client = client.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
    }
    let request = client.build().unwrap().get(format!("{}/v2/", larder.url()));
    let answer = request.send().await;
    answer.is_ok_and(|answer| answer.status().as_u16() == 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn larder_answers_by_tls_with_the_given_certificate() {
    let authority = Authority::new("the tests");
    let issued = authority.issue();
    let pair = Pair::new(&issued);
    let larder = options(&authority, &pair).start().await;
    assert!(larder.url().starts_with("https://"), "{}", larder.log());
    assert_eq!(shown(&larder, &authority).await, issued.der);
    let image = Image::random(1, &[300_000, 3000]);
    larder.push("team/app", "1", &image).await;
    let pulled = larder.get("/v2/team/app/manifests/1").await;
    assert_eq!(
        (pulled.status, pulled.body),
        (200, image.manifest_bytes().to_vec())
    );
    for (digest, bytes) in image.blobs() {
        let pulled = larder.get(&format!("/v2/team/app/blobs/{digest}")).await;
        assert!(pulled.complete && pulled.body == bytes);
    }
    assert!(!is_served(&larder, &Authority::new("another"), None).await);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_from_the_next_connection_on() {
    let (authority, pair) = authority();
    let larder = options(&authority, &pair).start().await;
    // This one's connection stays.
    assert_eq!(larder.get("/v2/").await.status, 200);
    for _ in 0..3 {
        let renewed = authority.issue();
        pair.replace(&renewed);
        assert_eq!(shown(&larder, &authority).await, renewed.der);
        assert_eq!(larder.get("/v2/").await.status, 200);
    }
    larder.finish().await;
}

/// Makes `..data` lead to `to`, as a kubelet does.
fn lead(home: &Path, to: &str) {
    symlink(to, home.join("..data_tmp")).unwrap();
    std::fs::rename(home.join("..data_tmp"), home.join("..data")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_by_a_swap_of_a_link() {
    let authority = Authority::new("the tests");
    let secret = tempfile::tempdir().unwrap();
    let put = |name: &str| {
        let issued = authority.issue();
        std::fs::create_dir(secret.path().join(name)).unwrap();
        issued.write_to(&secret.path().join(name));
        lead(secret.path(), name);
        issued.der
    };
    let first = put("..1");
    let files = ["tls.crt", "tls.key"].map(|name| secret.path().join(name));
    for file in &files {
        symlink(Path::new("..data").join(file.file_name().unwrap()), file).unwrap();
    }
    let options = Options::registry().tls(&files[0], &files[1], authority.certificate());
    let larder = options.start().await;
    assert_eq!(shown(&larder, &authority).await, first);
    let second = put("..2");
    std::fs::remove_dir_all(secret.path().join("..1")).unwrap();
    assert_eq!(shown(&larder, &authority).await, second);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_that_cannot_be_used_is_named_once_and_the_old_one_stays() {
    let authority = Authority::new("the tests");
    let first = authority.issue();
    let pair = Pair::new(&first);
    let larder = options(&authority, &pair).start().await;
    let complaints = || larder.log().matches("the old certificate stays").count();
    let foreign_key = Issued {
        key: authority.issue().key,
        ..authority.issue()
    };
    let garbage = |certificate: &str, key: &str| Issued {
        certificate: certificate.to_owned(),
        der: Vec::new(),
        key: key.to_owned(),
    };
    let cases = [
        (foreign_key, "tls.crt"),
        (garbage("certificate?", &first.key), "tls.crt"),
        (garbage("", &first.key), "tls.crt"),
        (garbage(&first.certificate, "key?"), "tls.key"),
    ];
    for (count, (bad, named)) in (1..).zip(cases) {
        pair.replace(&bad);
        for _ in 0..3 {
            assert_eq!(shown(&larder, &authority).await, first.der);
        }
        assert_eq!(complaints(), count, "{}", larder.log());
        let log = larder.log();
        let line = log.lines().rfind(|line| line.contains("stays")).unwrap();
        assert!(line.contains(named) && line.contains("ERROR"), "{line}");
        assert!(!line.contains("PRIVATE"), "{line}");
    }
    std::fs::remove_file(pair.key()).unwrap();
    assert_eq!(shown(&larder, &authority).await, first.der);
    assert_eq!(complaints(), 5, "{}", larder.log());
    let good = authority.issue();
    pair.replace(&good);
    assert_eq!(shown(&larder, &authority).await, good.der);
    assert_eq!(complaints(), 5, "{}", larder.log());
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_show_the_certificates_that_are_asked_for() {
    let (authority, pair) = authority();
    let (clients, foreign) = (Authority::new("clients"), Authority::new("foreign"));
    let roots = pair.home().join("clients.crt");
    std::fs::write(&roots, clients.certificate()).unwrap();
    let (right, wrong) = (clients.issue(), foreign.issue());
    for (mode, none, foreign) in [
        (None, false, false),
        (Some("require-and-verify-client-cert"), false, false),
        (Some("verify-client-cert-if-given"), true, false),
        (Some("require-any-client-cert"), false, true),
        (Some("request-client-cert"), true, true),
    ] {
        let mut options =
            options(&authority, &pair).set(&["http", "tls", "clientcas"], json!([roots]));
        if let Some(mode) = mode {
            options = options.set(&["http", "tls", "clientauth"], json!(mode));
        }
        let larder = options.start().await;
        let served = [
            is_served(&larder, &authority, None).await,
            is_served(&larder, &authority, Some(&right)).await,
            is_served(&larder, &authority, Some(&wrong)).await,
        ];
        assert_eq!(served, [none, true, foreign], "{mode:?}");
        larder.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_version_can_be_set() {
    let (authority, pair) = authority();
    for (minimum, serves_12) in [("tls1.2", true), ("tls1.3", false)] {
        let options = options(&authority, &pair);
        let options = options.set(&["http", "tls", "minimumtls"], json!(minimum));
        let larder = options.start().await;
        for (version, is_served) in [
            (reqwest::tls::Version::TLS_1_2, serves_12),
            (reqwest::tls::Version::TLS_1_3, true),
        ] {
            let client = client_trusting(Some(authority.certificate()))
                .tls_version_min(version)
                .tls_version_max(version);
            let request = client.build().unwrap().get(format!("{}/v2/", larder.url()));
            let answer = request.send().await;
            assert_eq!(
                answer.is_ok(),
                is_served,
                "{minimum} {version:?}: {answer:?}"
            );
        }
        larder.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_told_to_speak_https() {
    let (authority, pair) = authority();
    let larder = options(&authority, &pair).start().await;
    let url = format!("http://{}/v2/", larder.address());
    for length in [0, 1000, 100_000] {
        let request = larder.request("POST", &url).body(vec![b'x'; length]);
        let answer = larder.send(request).await;
        assert_eq!(answer.status, 400, "{length}");
        let body = String::from_utf8_lossy(&answer.body);
        assert!(answer.complete, "{length}: {answer:?}");
        assert!(body.ends_with("write https:// in the address"), "{body}");
    }
    assert_eq!(larder.get("/v2/").await.status, 200);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_never_shake_hands_are_in_nobodys_way() {
    let (authority, pair) = authority();
    let larder = options(&authority, &pair).start().await;
    let mut idle = Vec::new();
    for number in 0..50 {
        let mut stream = TcpStream::connect(larder.address()).await.unwrap();
        // Half of them begin, with the head of a record that never comes.
        if number % 2 == 0 {
            stream.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
        }
        idle.push(stream);
    }
    assert!(is_served(&larder, &authority, None).await);
    // Rubbish in a record is the end of its own connection.
    let mut rubbish = TcpStream::connect(larder.address()).await.unwrap();
    rubbish.write_all(&[22; 2000]).await.unwrap();
    let mut left = Vec::new();
    _ = rubbish.read_to_end(&mut left).await;
    assert!(is_served(&larder, &authority, None).await);
    drop(idle);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_certificate_larder_does_not_start_and_names_the_file() {
    let (authority, pair) = authority();
    let absent = pair.home().join("absent.pem");
    let garbage = pair.home().join("garbage.pem");
    std::fs::write(&garbage, "garbage").unwrap();
    for (key, file) in [
        ("certificate", &absent),
        ("key", &absent),
        ("certificate", &garbage),
        ("key", &garbage),
        // Each is there, but not what it should be.
        ("certificate", &pair.key()),
        ("key", &pair.certificate()),
    ] {
        let options = options(&authority, &pair).set(&["http", "tls", key], json!(file));
        let failed = options.fail().await;
        assert_eq!(failed.status, Some(1), "{failed:?}");
        let named = file.display().to_string();
        assert!(failed.log.contains(&named), "{key} {named}: {failed:?}");
        assert!(!failed.log.contains("panicked"), "{failed:?}");
    }
    let roots = options(&authority, &pair).set(&["http", "tls", "clientcas"], json!([absent]));
    let failed = roots.fail().await;
    assert_eq!(failed.status, Some(1), "{failed:?}");
    assert!(failed.log.contains("absent.pem"), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_logs_in_pushes_and_pulls_by_tls() {
    let (authority, pair) = authority();
    let users = Htpasswd::new(&[("anna", "anna's password")]);
    let htpasswd = json!({ "realm": "the larder", "path": users.path() });
    let options = options(&authority, &pair).set(&["auth", "htpasswd"], htpasswd);
    let larder = options.start().await;
    let docker = Dockerd::without_mirror().await;
    let name = format!("{}/team/app:1", larder.address());
    let built = docker.build_scratch_image(&name, FILES).await;
    let refused = docker.try_push(&name).await;
    assert!(!refused.success, "{refused:?}");
    docker
        .login(larder.address(), "anna", "anna's password")
        .await;
    docker.push(&name).await;
    docker.remove_image(&name).await;
    docker.pull(&name).await;
    assert_eq!(docker.image_id(&name).await, built);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_verifies_the_certificate() {
    let (authority, pair) = authority();
    let larder = options(&authority, &pair).start().await;
    larder
        .push("team/app", "1", &Image::random(1, &[3000]))
        .await;
    let (good, bad) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(good.path().join("ca.crt"), authority.certificate()).unwrap();
    let another = Authority::new("another");
    std::fs::write(bad.path().join("ca.crt"), another.certificate()).unwrap();
    let from = format!("docker://{}/team/app:1", larder.address());
    let to = format!("docker://{}/team/copy:1", larder.address());
    let skopeo = Skopeo::new();
    let copy = async |directory: &Path| {
        let directory = directory.to_str().unwrap();
        let arguments = [
            "copy",
            "--src-tls-verify=true",
            "--dest-tls-verify=true",
            "--src-cert-dir",
            directory,
            "--dest-cert-dir",
            directory,
            &from,
            &to,
        ];
        skopeo.run(&arguments).await
    };
    let refused = copy(bad.path()).await;
    assert!(!refused.success, "{refused:?}");
    assert!(refused.stderr.contains("x509"), "{refused:?}");
    copy(good.path()).await.expect_success();
    assert_eq!(larder.get("/v2/team/copy/manifests/1").await.status, 200);
    larder.finish().await;
}
