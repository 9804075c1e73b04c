//! HTTP/2: who is offered it, and that a request means on it what it means on HTTP/1.1.

use std::time::Duration;

use bytes::Bytes;
use h2::client::{SendRequest, handshake};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method, Request};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::authority::{Authority, Pair};
use crate::support::hub::{Fault, Hub, What, Where};
use crate::support::image::{Image, noise, sha256};
use crate::support::programs::{Curl, Dockerd, File, Htpasswd, Larder, Options, Skopeo};

const FILES: &[File<'static>] = &[("etc/greeting", b"hello\n")];

/// Longer than any of this takes.
const LONG: Duration = Duration::from_mins(1);

fn h2c(options: Options) -> Options {
    options.set(&["http", "h2c", "enabled"], json!(true))
}

fn encrypted() -> (Authority, Pair, Options) {
    let authority = Authority::new("the tests");
    let pair = Pair::new(&authority.issue());
    let (certificate, key) = (pair.certificate(), pair.key());
    let options = Options::registry().tls(&certificate, &key, authority.certificate());
    (authority, pair, options)
}

/// An HTTP/2 connection in the clear that shows its frames' meaning.
struct Client {
    send: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
    authority: String,
}

/// An answer, to its end or to where it broke.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    /// How it ended: `Ok` for an end of the stream.
    end: Result<(), Option<Reason>>,
}

impl Client {
    async fn connect(larder: &Larder) -> Self {
        let stream = TcpStream::connect(larder.address()).await.unwrap();
        let (send, connection) = handshake(stream).await.unwrap();
        Self {
            send,
            connection: tokio::spawn(connection),
            authority: larder.address().to_owned(),
        }
    }

    fn request(&self, method: &Method, path: &str) -> Request<()> {
        let uri = format!("http://{}{path}", self.authority);
        Request::builder().method(method).uri(uri).body(()).unwrap()
    }

    /// Sends a head and as much of a body as there is, and reads the answer.
    async fn ask(&self, request: Request<()>, pieces: &[Bytes], ends: bool) -> Answer {
        let mut send = self.send.clone().ready().await.unwrap();
        let ends_at_once = ends && pieces.is_empty();
        let (answer, mut body) = send.send_request(request, ends_at_once).unwrap();
        for (number, piece) in (1..).zip(pieces) {
            // Refused meanwhile: then nobody wants the rest.
            _ = body.send_data(piece.clone(), ends && number == pieces.len());
        }
        let answer = tokio::time::timeout(LONG, answer).await.unwrap().unwrap();
        let (head, body) = answer.into_parts();
        let (body, end) = read(body).await;
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
            end,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        let request = self.request(&Method::GET, path);
        self.ask(request, &[], true).await
    }
}

async fn read(mut body: RecvStream) -> (Vec<u8>, Result<(), Option<Reason>>) {
    let mut read = Vec::new();
    while let Some(piece) = tokio::time::timeout(LONG, body.data()).await.unwrap() {
        match piece {
            Ok(bytes) => {
                _ = body.flow_control().release_capacity(bytes.len());
                read.extend_from_slice(&bytes);
            }
            Err(error) => return (read, Err(error.reason())),
        }
    }
    (read, Ok(()))
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_offered_with_tls_unless_it_is_disabled() {
    let (authority, _pair, options) = encrypted();
    let curl = Curl::trusting(Some(authority.certificate()));
    let mut larder = options.start().await;
    let url = format!("{}/v2/", larder.url());
    assert_eq!(curl.fetch(&url, &["--http2"]).await.version, "2");
    assert_eq!(curl.fetch(&url, &["--http1.1"]).await.version, "1.1");
    larder.logged("\"GET /v2/ HTTP/2.0\" 200 2 ").await;
    larder.logged("\"GET /v2/ HTTP/1.1\" 200 2 ").await;
    for (disabled, version) in [(true, "1.1"), (false, "2")] {
        larder.reconfigure(&["http", "http2"], json!({ "disabled": disabled }));
        let said = larder.hang_up().await;
        let got = curl.fetch(&url, &["--http2"]).await;
        assert_eq!(got.version, version, "{got:?} {said}");
        assert_eq!(got.status, "200", "{got:?}");
    }
    larder.finish().await;
    let (_authority, _pair, options) = encrypted();
    let options = options.set(&["http", "http2", "disabled"], json!(true));
    let larder = options.start().await;
    let url = format!("{}/v2/", larder.url());
    let curl = Curl::trusting(None);
    let got = curl.fetch(&url, &["--insecure", "--http2"]).await;
    assert_eq!(got.version, "1.1", "{got:?}");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_in_the_clear_is_understood_only_where_it_is_enabled() {
    let curl = Curl::trusting(None);
    for enabled in [false, true] {
        let options = Options::registry().set(&["http", "h2c", "enabled"], json!(enabled));
        let larder = options.start().await;
        let url = format!("{}/v2/", larder.url());
        let prior = curl.fetch(&url, &["--http2-prior-knowledge"]).await;
        assert_eq!(prior.output.success, enabled, "{prior:?}");
        if enabled {
            assert_eq!((&*prior.version, &*prior.status), ("2", "200"));
        }
        for option in ["--http1.1", "--http2"] {
            // An upgrade is none of HTTP/2's beginnings any more: RFC 9113 §3.1.
            let got = curl.fetch(&url, &[option]).await;
            assert_eq!((&*got.version, &*got.status), ("1.1", "200"), "{option}");
        }
        larder.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_are_told_apart_however_their_bytes_come() {
    let larder = h2c(Options::registry()).start().await;
    for (preface, answer) in [
        (
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
            &b"\0\0"[..],
        ),
        ("PUT /v2/ HTTP/1.1\r\nhost: x\r\n\r\n", b"HT"),
        ("GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n", b"HT"),
    ] {
        let mut stream = TcpStream::connect(larder.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for byte in preface.as_bytes() {
            stream.write_all(&[*byte]).await.unwrap();
        }
        let mut first = [0; 2];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(first, answer, "{preface:?}");
    }
    // One that says nothing is in nobody's way, the end least of all.
    let silent = TcpStream::connect(larder.address()).await.unwrap();
    let mut half = TcpStream::connect(larder.address()).await.unwrap();
    half.write_all(b"P").await.unwrap();
    larder.finish().await;
    drop((silent, half));
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_in_the_clear_is_understood_on_a_socket_too() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("larder.sock");
    let options = h2c(Options::registry()).set(&["http", "net"], json!("unix"));
    let options = options.set(&["http", "addr"], json!(socket));
    let larder = options.start().await;
    let curl = Curl::trusting(None);
    let socket = socket.to_str().unwrap();
    for (option, version) in [("--http2-prior-knowledge", "2"), ("--http1.1", "1.1")] {
        let options = ["--unix-socket", socket, option];
        let got = curl.fetch("http://localhost/v2/", &options).await;
        assert_eq!(
            (&*got.version, &*got.body),
            (version, &b"{}"[..]),
            "{got:?}"
        );
    }
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pushed_and_pulled_by_http2() {
    let larder = h2c(Options::registry()).start().await;
    let client = Client::connect(&larder).await;
    let image = Image::random(1, &[3_000_000, 3000, 0]);
    for (digest, bytes) in image.blobs() {
        let post = client.request(&Method::POST, "/v2/team/app/blobs/uploads/");
        let started = client.ask(post, &[], true).await;
        assert_eq!(started.status, 202, "{started:?}");
        let location = started.headers["location"].to_str().unwrap();
        assert!(location.starts_with("/v2/team/app/blobs/uploads/"));
        let half = bytes.len() / 2;
        let pieces = [bytes.slice(..half), bytes.slice(half..)];
        let patch = client.request(&Method::PATCH, location);
        let sent = client.ask(patch, &pieces, true).await;
        assert_eq!(sent.status, 202, "{sent:?}");
        let location = sent.headers["location"].to_str().unwrap();
        let put = client.request(&Method::PUT, &format!("{location}&digest={digest}"));
        let stored = client.ask(put, &[], true).await;
        assert_eq!(stored.status, 201, "{stored:?}");
    }
    let mut put = client.request(&Method::PUT, "/v2/team/app/manifests/1");
    let media_type = image.media_type().parse().unwrap();
    put.headers_mut().insert("content-type", media_type);
    let pushed = client.ask(put, &[image.manifest_bytes()], true).await;
    assert_eq!(pushed.status, 201, "{pushed:?}");
    let pulled = client.get("/v2/team/app/manifests/1").await;
    assert_eq!(
        (pulled.end, pulled.body),
        (Ok(()), image.manifest_bytes().to_vec())
    );
    for (digest, bytes) in image.blobs() {
        let path = format!("/v2/team/app/blobs/{digest}");
        let pulled = client.get(&path).await;
        assert!(pulled.end.is_ok() && pulled.body == bytes, "{digest}");
        let mut part = client.request(&Method::GET, &path);
        part.headers_mut()
            .insert("range", "bytes=0-9".parse().unwrap());
        let part = client.ask(part, &[], true).await;
        if !bytes.is_empty() {
            assert_eq!((part.status, &*part.body), (206, &bytes[..10]));
        }
    }
    // What has a body has none for HEAD, and says how long it would be.
    for path in [
        "/v2/",
        "/v2/team/app/manifests/1",
        "/v2/nothing/manifests/1",
    ] {
        let got = client.get(path).await;
        let head = client.request(&Method::HEAD, path);
        let head = client.ask(head, &[], true).await;
        assert_eq!((head.status, &head.end), (got.status, &Ok(())), "{path}");
        assert!(head.body.is_empty() && !got.body.is_empty(), "{path}");
        let length = head.headers["content-length"].to_str().unwrap();
        assert_eq!(length, got.body.len().to_string(), "{path}");
    }
    assert!(!client.connection.is_finished());
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_still_comes_is_passed_on_by_http2() {
    let hub = Hub::start().await;
    let content = noise(1, 0, 3_000_000);
    let digest = hub.put_blob("library/x", content.clone());
    let gate = Fault::on(Where::blobs().get()).does(What::Gate(Some(1_500_000)));
    let gate = hub.fault(gate);
    let larder = h2c(Options::mirror_of(&hub)).start().await;
    let client = Client::connect(&larder).await;
    let path = format!("/v2/library/x/blobs/{digest}");
    let asking = client.get(&path);
    let opening = async {
        hub.wait_for(|asked| !asked.is_empty()).await;
        // Other streams of the connection go on meanwhile.
        assert_eq!(client.get("/v2/").await.status, 200);
        hub.open(gate);
    };
    let (got, ()) = tokio::join!(asking, opening);
    assert!(got.end.is_ok() && got.body == content);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_breaks_is_a_reset_and_never_an_end() {
    let content = noise(1, 0, 3_000_000);
    for (what, times) in [
        (What::TruncateAfter(1_200_000), 1),
        (What::FlipBit(2_999_999), 100),
    ] {
        let hub = Hub::start().await;
        let digest = hub.put_blob("library/x", content.clone());
        let fault = Fault::on(Where::blobs().get()).times(times);
        hub.fault(fault.does(what.clone()));
        let limit: &[(&str, &str)] = &[("retry-after", "3600")];
        let resumed = Where::blobs().with_header("range");
        hub.fault(Fault::on(resumed).does(What::Status(429, limit, "{}")));
        let larder = h2c(Options::mirror_of(&hub)).start().await;
        let path = format!("/v2/library/x/blobs/{digest}");
        let client = Client::connect(&larder).await;
        let got = client.get(&path).await;
        assert_eq!(got.status, 200, "{what:?}");
        assert_eq!(got.end, Err(Some(Reason::INTERNAL_ERROR)), "{what:?}");
        assert!(got.body.len() < content.len(), "{what:?}");
        // The connection is none the worse for it.
        assert_eq!(client.get("/v2/").await.status, 200);
        let url = format!("{}{path}", larder.url());
        let curl = Curl::trusting(None);
        let got = curl.fetch(&url, &["--http2-prior-knowledge"]).await;
        assert!(
            !got.output.success || got.status != "200",
            "{what:?} {got:?}"
        );
        larder.finish_with_parts().await;
    }
}

/// A larder that takes uploads from nobody but its users.
async fn guarded() -> (Htpasswd, Larder) {
    let users = Htpasswd::new(&[("anna", "anna's password")]);
    let auth = json!({
        "htpasswd": { "realm": "the larder", "path": users.path() },
        "anonymous": ["pull"],
    });
    let larder = h2c(Options::registry()).set(&["auth"], auth).start().await;
    (users, larder)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_refused_early_disturbs_no_other_stream() {
    let (_users, larder) = guarded().await;
    let client = Client::connect(&larder).await;
    // More than any window, so that it never gets through by itself.
    let pieces: Vec<_> = (0..64).map(|_| Bytes::from(vec![b'x'; 1 << 20])).collect();
    for _ in 0..10 {
        let post = client.request(&Method::POST, "/v2/team/app/blobs/uploads/");
        // A body that goes on, and one that stops without an end.
        for (pieces, ends) in [(&pieces[..], true), (&pieces[..1], false)] {
            let refused = client.ask(post.clone(), pieces, ends).await;
            assert_eq!(refused.status, 401, "{refused:?}");
            assert_eq!(refused.end, Ok(()));
        }
    }
    assert_eq!(client.get("/v2/_catalog").await.status, 200);
    assert!(!client.connection.is_finished());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![b'x'; 20 << 20]).unwrap();
    let data = format!("@{}", file.path().display());
    let url = format!("{}/v2/team/app/blobs/uploads/", larder.url());
    let options = ["--http2-prior-knowledge", "--data-binary", &data];
    let got = Curl::trusting(None).fetch(&url, &options).await;
    assert_eq!(got.status, "401", "{got:?}");
    larder.finish().await;
}

/// A frame, to be written or as it came. RFC 9113 §4.1.
#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

impl Frame {
    fn new(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        let payload = payload.to_vec();
        Self {
            kind,
            flags,
            stream,
            payload,
        }
    }

    async fn write(&self, connection: &mut TcpStream) {
        let length = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        let (kinds, stream) = ([self.kind, self.flags], self.stream.to_be_bytes());
        let frame = [&length[1..], &kinds, &stream, &self.payload[..]].concat();
        connection.write_all(&frame).await.unwrap();
    }

    async fn read(connection: &mut TcpStream) -> Self {
        let mut head = [0; 9];
        let reading = connection.read_exact(&mut head);
        tokio::time::timeout(LONG, reading).await.unwrap().unwrap();
        let [a, b, c, kind, flags, stream @ ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        let reading = connection.read_exact(&mut payload);
        tokio::time::timeout(LONG, reading).await.unwrap().unwrap();
        Self {
            kind,
            flags,
            stream: u32::from_be_bytes(stream),
            payload,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_still_comes_of_a_refused_upload_is_read_behind_the_answer() {
    let (_users, larder) = guarded().await;
    let connection = &mut TcpStream::connect(larder.address()).await.unwrap();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    connection.write_all(preface).await.unwrap();
    // SETTINGS_INITIAL_WINDOW_SIZE is 0: the answer's body has to wait.
    let settings = Frame::new(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    settings.write(connection).await;
    // larder's own hold from when they are acknowledged, its window from when it says so.
    while {
        let frame = Frame::read(connection).await;
        if frame.kind == SETTINGS && frame.flags != ACK {
            Frame::new(SETTINGS, ACK, 0, b"").write(connection).await;
        }
        frame.kind != WINDOW_UPDATE
    } {}
    let (path, authority) = ("/v2/team/app/blobs/uploads/", larder.address());
    let text = |text: &str| {
        let length = u8::try_from(text.len()).unwrap();
        [&[length][..], text.as_bytes()].concat()
    };
    let (path, authority) = (text(path), text(authority));
    // POST, http, and the literals of :path and :authority. RFC 7541, appendix A.
    let head = [&b"\x83\x86\x44"[..], &path[..], b"\x41", &authority[..]].concat();
    let head = Frame::new(HEADERS, END_HEADERS, 1, &head);
    head.write(connection).await;
    // As much as comes without being asked for.
    for _ in 0..64 {
        let piece = Frame::new(DATA, 0, 1, &[b'x'; 16 * 1024]);
        piece.write(connection).await;
    }
    while Frame::read(connection).await.kind != HEADERS {}
    // It has refused by now, and would go on to read, again and again.
    for _ in 0..100 {
        Frame::new(PING, 0, 0, b"whatever").write(connection).await;
        loop {
            let frame = Frame::read(connection).await;
            assert_ne!(frame.stream, 1, "{frame:?}");
            if frame.kind == PING {
                break;
            }
        }
    }
    let window = Frame::new(WINDOW_UPDATE, 0, 1, &60_000_u32.to_be_bytes());
    window.write(connection).await;
    let (mut is_answered, mut is_read) = (false, false);
    while !is_answered || !is_read {
        let frame = Frame::read(connection).await;
        if frame.stream == 1 {
            is_answered |= frame.kind == DATA && frame.flags & END_STREAM != 0;
            is_read |= frame.kind == WINDOW_UPDATE;
        }
    }
    let end = Frame::new(DATA, END_STREAM, 1, b"");
    end.write(connection).await;
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_its_client_takes_back_is_there_to_go_on_with() {
    let larder = h2c(Options::registry()).start().await;
    let client = Client::connect(&larder).await;
    let post = client.request(&Method::POST, "/v2/team/app/blobs/uploads/");
    let started = client.ask(post, &[], true).await;
    let location = started.headers["location"].to_str().unwrap();
    let content = noise(1, 0, 900_000);
    let mut send = client.send.clone().ready().await.unwrap();
    let patch = client.request(&Method::PATCH, location);
    let (answer, mut body) = send.send_request(patch, false).unwrap();
    body.send_data(Bytes::from(content[..500_000].to_vec()), false)
        .unwrap();
    // On the same connection: by its answer larder has seen what was sent before.
    while {
        let status = client.get(location).await;
        assert_eq!(status.status, 204, "{status:?}");
        status.headers["range"] != "0-499999"
    } {
        tokio::task::yield_now().await;
    }
    body.send_reset(Reason::CANCEL);
    assert!(answer.await.is_err());
    let digest = sha256(&content);
    loop {
        let status = client.get(location).await;
        let location = status.headers["location"].to_str().unwrap();
        let put = client.request(&Method::PUT, &format!("{location}&digest={digest}"));
        let rest = Bytes::from(content[500_000..].to_vec());
        let stored = client.ask(put, &[rest], true).await;
        if stored.status == 201 {
            break;
        }
        // Until what was taken back has let go of it.
        assert!([409, 423, 416].contains(&stored.status), "{stored:?}");
    }
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_is_the_one_that_was_asked() {
    let users = Htpasswd::new(&[("anna", "anna's password")]);
    let auth = json!({
        "htpasswd": { "realm": "the larder", "path": users.path() },
        "anonymous": ["pull"],
        "challenge": ["login.example.com"],
    });
    let options = h2c(Options::registry()).set(&["auth"], auth);
    let larder = options.start().await;
    let mut client = Client::connect(&larder).await;
    for (authority, host, status) in [
        ("other.example.com", None, 200),
        ("login.example.com", None, 401),
        ("login.example.com", Some("other.example.com"), 401),
        ("other.example.com", Some("login.example.com"), 200),
        ("login.example.com@other.example.com", None, 200),
    ] {
        authority.clone_into(&mut client.authority);
        let mut request = client.request(&Method::GET, "/v2/");
        if let Some(host) = host {
            request.headers_mut().insert("host", host.parse().unwrap());
        }
        let got = client.ask(request, &[], true).await;
        assert_eq!(got.status, status, "{authority} {host:?}");
    }
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_as_large_as_on_http1_and_no_larger() {
    let larder = h2c(Options::registry()).start().await;
    let client = Client::connect(&larder).await;
    for (length, status) in [(40_000, 200), (100_000, 431)] {
        let mut request = client.request(&Method::GET, "/v2/");
        let value = "a".repeat(length).parse().unwrap();
        request.headers_mut().insert("x-long", value);
        let got = client.ask(request, &[], true).await;
        assert_eq!(got.status, status, "{length}");
    }
    assert_eq!(client.get("/v2/").await.status, 200);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_streams_and_for_nothing_else() {
    let hub = Hub::start().await;
    let content = noise(1, 0, 2_000_000);
    let digest = hub.put_blob("library/x", content.clone());
    let gate = Fault::on(Where::blobs().get()).does(What::Gate(Some(1_000_000)));
    let gate = hub.fault(gate);
    let mut larder = h2c(Options::mirror_of(&hub)).start().await;
    let (client, idle) = (
        Client::connect(&larder).await,
        Client::connect(&larder).await,
    );
    assert_eq!(idle.get("/v2/").await.status, 200);
    // One that never says anything again, not even that it has heard.
    let mut deaf = TcpStream::connect(larder.address()).await.unwrap();
    deaf.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let path = format!("/v2/library/x/blobs/{digest}");
    let asking = client.get(&path);
    let stopping = async {
        hub.wait_for(|asked| !asked.is_empty()).await;
        larder.signal(rustix::process::Signal::TERM);
        // It is told to leave, and leaves.
        let left = tokio::time::timeout(LONG, idle.connection).await.unwrap();
        assert!(left.unwrap().is_ok());
        hub.open(gate);
    };
    let (got, ()) = tokio::join!(asking, stopping);
    assert!(got.end.is_ok() && got.body == content, "{}", larder.log());
    assert!(larder.ended().await.success());
    let log = larder.log();
    assert!(!log.contains("not finished in time"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_clients_push_and_pull_where_http2_is_offered() {
    let (authority, _pair, options) = encrypted();
    let larder = options.start().await;
    let docker = Dockerd::without_mirror().await;
    let name = format!("{}/team/app:1", larder.address());
    let built = docker.build_scratch_image(&name, FILES).await;
    docker.push(&name).await;
    docker.remove_image(&name).await;
    docker.pull(&name).await;
    assert_eq!(docker.image_id(&name).await, built);
    let trusted = tempfile::tempdir().unwrap();
    std::fs::write(trusted.path().join("ca.crt"), authority.certificate()).unwrap();
    let trusted = trusted.path().to_str().unwrap();
    let (from, to) = (
        format!("docker://{name}"),
        format!("docker://{}/team/copy:1", larder.address()),
    );
    let certificates = ["--src-cert-dir", trusted, "--dest-cert-dir", trusted];
    let skopeo = Skopeo::new();
    let arguments = [&["copy"][..], &certificates, &[&from, &to]].concat();
    skopeo.run(&arguments).await.expect_success();
    larder.finish().await;
}
