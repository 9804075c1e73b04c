//! The hub does what it says: a fake that is wrong makes every test that leans on it worthless.
#![expect(
    clippy::expect_used,
    reason = "the helpers of tests may fail as tests may"
)]

mod faults;
mod images;

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::hub::{Asked, Builder, Fault, Hub, Listener, TokenShape, What, Where};
use crate::support::image::Image;

/// An answer, down to how the connection ended.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
    reset: bool,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}: ");
        self.head
            .lines()
            .find_map(|line| line.strip_prefix(&prefix))
    }
}

async fn send(host: &str, method: &str, path: &str, headers: &[&str]) -> TcpStream {
    let mut stream = TcpStream::connect(host).await.expect("the hub listens");
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    let lines: String = headers.iter().flat_map(|line| [line, "\r\n"]).collect();
    let request = format!("{head}{lines}\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("the hub reads");
    stream
}

async fn ask(host: &str, method: &str, path: &str, headers: &[&str]) -> Answer {
    let mut stream = send(host, method, path, headers).await;
    let mut bytes = Vec::new();
    let read = async {
        while stream.read_buf(&mut bytes).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    let read = tokio::time::timeout(Duration::from_secs(10), read).await;
    let reset = read.expect("an answer that ends").is_err();
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map_or(0, |at| at + 4);
    let body = bytes.split_off(end);
    let head = String::from_utf8(bytes).expect("a head that is text");
    let status = head
        .get(9..12)
        .map_or(0, |code| code.parse().expect("a status"));
    Answer {
        status,
        head,
        body,
        reset,
    }
}

async fn get(hub: &Hub, path: &str) -> Answer {
    ask(&hub.host(), "GET", path, &[]).await
}

/// A hub with one blob of 100,000 bytes, and the path of it.
async fn with_blob(builder: Builder) -> (Hub, String, Vec<u8>) {
    let hub = builder.start().await;
    let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    let digest = hub.put_blob("some/thing", bytes.clone());
    (hub, format!("/v2/some/thing/blobs/{digest}"), bytes)
}

#[tokio::test]
async fn hub_serves_an_image_by_tag_and_by_digest() {
    let hub = Hub::start().await;
    let image = Image::random(1, &[10_000, 20_000]);
    let digest = hub.push("library/debian", "12", &image);
    assert_eq!(digest, image.digest());
    for reference in ["12", &digest] {
        let answer = get(&hub, &format!("/v2/library/debian/manifests/{reference}")).await;
        assert_eq!(
            (answer.status, &answer.body),
            (200, &image.manifest_bytes().to_vec())
        );
        assert_eq!(answer.header("content-type"), Some(image.media_type()));
        assert_eq!(answer.header("docker-content-digest"), Some(&*digest));
        assert_eq!(answer.header("ratelimit-limit"), Some("100;w=21600"));
    }
    for (digest, bytes) in image.blobs() {
        let path = format!("/v2/library/debian/blobs/{digest}");
        assert_eq!(get(&hub, &path).await.body, bytes);
        let head = ask(&hub.host(), "HEAD", &path, &[]).await;
        assert_eq!(
            head.header("content-length"),
            Some(&*bytes.len().to_string())
        );
        assert!(head.body.is_empty());
    }
    ask(&hub.host(), "HEAD", "/v2/library/debian/manifests/12", &[]).await;
    assert_eq!((hub.manifest_gets(), hub.manifest_heads()), (2, 1));
    assert_eq!((hub.blob_gets(), hub.blob_heads()), (3, 3));
    let twice = image.manifest_bytes().len() as u64;
    assert_eq!(hub.body_bytes(), image.total_size() + twice);
    hub.clear_log();
    assert!(hub.asked().is_empty() && hub.url().ends_with(&hub.host()));
    hub.join().await;
}

#[tokio::test]
async fn hub_forgets_and_moves_what_it_is_told_to() {
    let hub = Hub::start().await;
    let manifest = |text: &str| hub.put_manifest("a", Some("t"), "text/x", text.to_owned());
    let (old, _new) = (manifest("old"), manifest("new"));
    assert_eq!(get(&hub, "/v2/a/manifests/t").await.body, b"new");
    hub.move_tag("a", "t", &old);
    assert_eq!(get(&hub, "/v2/a/manifests/t").await.body, b"old");
    hub.delete_tag("a", "t");
    let gone = get(&hub, "/v2/a/manifests/t").await;
    assert_eq!(gone.status, 404);
    assert!(String::from_utf8_lossy(&gone.body).contains("MANIFEST_UNKNOWN"));
    hub.delete_repo("a");
    let gone = get(&hub, &format!("/v2/a/manifests/{old}")).await;
    assert!(String::from_utf8_lossy(&gone.body).contains("NAME_UNKNOWN"));
}

#[tokio::test]
async fn hub_answers_ranges_and_pages_of_tags() {
    let (hub, path, bytes) = with_blob(Hub::builder()).await;
    let range = async |range: &str| {
        let answer = ask(
            &hub.host(),
            "GET",
            &path,
            &[&format!("Range: bytes={range}")],
        )
        .await;
        let said = answer.header("content-range").map(str::to_owned);
        (answer.status, said.unwrap_or_default(), answer.body)
    };
    assert_eq!(
        range("5-9").await,
        (206, "bytes 5-9/100000".into(), bytes[5..10].to_vec())
    );
    assert_eq!(range("99990-").await.2, &bytes[99_990..]);
    assert_eq!(range("-3").await.2, &bytes[99_997..]);
    assert_eq!(range("100000-").await.1, "bytes */100000");
    assert_eq!(range("1-2,4-5").await.0, 200);

    for tag in ["c", "a", "b"] {
        hub.put_manifest("some/thing", Some(tag), "text/x", "{}");
    }
    let page = get(&hub, "/v2/some/thing/tags/list?n=2").await;
    assert!(String::from_utf8_lossy(&page.body).contains(r#""tags":["a","b"]"#));
    let link = page.header("link").expect("there is more");
    assert_eq!(link, "</v2/some/thing/tags/list?last=b&n=2>; rel=\"next\"");
    let page = get(&hub, "/v2/some/thing/tags/list?last=b&n=2").await;
    assert!(String::from_utf8_lossy(&page.body).contains(r#""tags":["c"]"#));
    assert_eq!(page.header("link"), None);
}

async fn token(hub: &Hub, query: &str, headers: &[&str]) -> Result<String, u16> {
    let path = format!("/token?{query}");
    let answer = ask(&hub.token_host(), "GET", &path, headers).await;
    let json: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    let token = json.get("access_token").and_then(|token| token.as_str());
    token.map(str::to_owned).ok_or(answer.status)
}

#[tokio::test]
async fn hub_lets_in_only_with_a_token_for_that_repository() {
    let (hub, path, _) = with_blob(Hub::builder().bearer()).await;
    let refused = get(&hub, &path).await;
    assert_eq!(refused.status, 401);
    let realm = format!("Bearer realm=\"http://{}/token\"", hub.token_host());
    let scope = "service=\"hub.test\",scope=\"repository:some/thing:pull\"";
    assert_eq!(
        refused.header("www-authenticate"),
        Some(&*format!("{realm},{scope}"))
    );

    let status = async |token: &str| {
        let bearer = format!("Authorization: Bearer {token}");
        ask(&hub.host(), "GET", &path, &[&bearer]).await.status
    };
    let scope = "service=hub.test&scope=repository%3Asome/thing%3Apull";
    let good = token(&hub, scope, &[]).await.expect("a token");
    assert_eq!(status(&good).await, 200);
    let other = token(&hub, "service=hub.test&scope=repository:other:pull", &[]).await;
    assert_eq!(status(&other.expect("a token")).await, 401);
    hub.revoke_tokens();
    assert_eq!(status(&good).await, 401);
    hub.token_shape(TokenShape {
        token: false,
        expires_in: Some(0),
        ..TokenShape::default()
    });
    let expired = token(&hub, scope, &[]).await.expect("a token");
    assert_eq!(status(&expired).await, 401);
    hub.token_shape(TokenShape {
        access_token: false,
        ..TokenShape::default()
    });
    assert_eq!(token(&hub, scope, &[]).await, Err(200));
    assert_eq!(hub.token_requests(), 4);
}

#[tokio::test]
async fn hub_opens_what_is_private_only_to_the_credentials() {
    let hub = Hub::builder()
        .bearer()
        .credentials("me", "secret")
        .start()
        .await;
    hub.private("mine");
    let ask_token = async |headers: &[&str]| {
        token(&hub, "service=hub.test&scope=repository:mine:pull", headers).await
    };
    assert_eq!(ask_token(&[]).await, Err(401));
    assert_eq!(
        ask_token(&["Authorization: Basic bm90OnRoaXM="]).await,
        Err(401)
    );
    assert!(
        ask_token(&["Authorization: Basic bWU6c2VjcmV0"])
            .await
            .is_ok()
    );

    let form = "service=hub.test&scope=repository:mine:pull&username=me&password=secret";
    let mut stream = TcpStream::connect(hub.token_host()).await.unwrap();
    let head = "POST /token HTTP/1.1\r\nConnection: close\r\nContent-Length: ";
    let request = format!("{head}{}\r\n\r\n{form}", form.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("access_token"), "{answer}");

    let hub = Hub::builder().basic("me", "secret").start().await;
    let refused = get(&hub, "/v2/").await;
    assert_eq!(
        refused.header("www-authenticate"),
        Some("Basic realm=\"hub.test\"")
    );
    let header = "Authorization: Basic bWU6c2VjcmV0";
    assert_eq!(ask(&hub.host(), "GET", "/v2/", &[header]).await.status, 200);
}

#[tokio::test]
async fn hub_redirects_blobs_to_a_cdn_that_wants_no_credentials() {
    let (hub, path, bytes) = with_blob(Hub::builder().cdn()).await;
    let cut = hub.fault(
        Fault::on(Where::blobs())
            .times(1)
            .does(What::TruncateAfter(7)),
    );
    let redirect = get(&hub, &path).await;
    let prefix = format!("http://{}", hub.cdn_host());
    let location = redirect
        .header("location")
        .and_then(|it| it.strip_prefix(&prefix));
    let location = location.expect("a redirect to the CDN");
    assert_eq!(
        (redirect.status, hub.struck(cut)),
        (307, 0),
        "there is no body to cut"
    );
    let blob = async |headers| ask(&hub.cdn_host(), "GET", location, headers).await;
    assert_eq!(blob(&[]).await.body, bytes[..7]);
    assert_eq!(blob(&[]).await.body, bytes);
    assert_eq!(blob(&["Authorization: Bearer x"]).await.status, 400);
    assert_eq!(
        ask(&hub.cdn_host(), "GET", "/blobs/x?sig=1", &[])
            .await
            .status,
        403
    );
    let leaked =
        |asked: &Asked| asked.listener == Listener::Cdn && asked.header("authorization").is_some();
    assert_eq!(hub.count(leaked), 1);
    assert_eq!(hub.blob_gets(), 1);
    assert!(hub.asked()[1].parameter("sig").is_some());
}

#[tokio::test]
async fn hub_refuses_while_it_is_down_and_comes_back_at_the_same_ports() {
    let (hub, path, _) = with_blob(Hub::builder()).await;
    hub.fault(
        Fault::on(Where::anything())
            .times(1)
            .does(What::StallHeaders),
    );
    let mut cut = send(&hub.host(), "GET", &path, &[]).await;
    hub.wait_for(|asked| asked.len() == 1).await;
    hub.down().await;
    assert_eq!(hub.connections(), 0);
    assert!(cut.read_u8().await.is_err(), "the connection is cut");
    for host in [hub.host(), hub.token_host(), hub.cdn_host()] {
        let refused = TcpStream::connect(host).await.expect_err("nobody listens");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
    hub.up().await;
    assert_eq!(get(&hub, &path).await.status, 200);
}
