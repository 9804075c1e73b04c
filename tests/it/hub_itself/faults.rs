//! Each fault, seen from the other end of the connection.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Answer, ask, get, send, with_blob};
use crate::support::hub::{Fault, FaultId, Hub, Kind, Listener, What, Where};
use crate::support::image::sha256;

#[tokio::test]
async fn hub_cuts_the_connection_after_n_bytes() {
    let (hub, path, bytes) = with_blob(Hub::builder()).await;
    let blobs = || Fault::on(Where::blobs()).times(1);
    hub.fault(blobs().does(What::TruncateAfter(40_000)));
    hub.fault(blobs().does(What::ResetAfter(50_000)));
    hub.fault(blobs().does(What::CloseBeforeAnswer));
    for (length, reset) in [(40_000, false), (50_000, true)] {
        let answer = get(&hub, &path).await;
        assert_eq!((answer.reset, &*answer.body), (reset, &bytes[..length]));
        assert_eq!(answer.header("content-length"), Some("100000"));
    }
    assert!(get(&hub, &path).await.head.is_empty());
    let sent: Vec<_> = hub
        .asked()
        .iter()
        .map(|asked| (asked.status(), asked.body_sent()))
        .collect();
    assert_eq!(sent, [(200, 40_000), (200, 50_000), (0, 0)]);
}

#[tokio::test]
async fn hub_stalls_and_holds_until_it_is_told_to_go_on() {
    let (hub, path, bytes) = with_blob(Hub::builder()).await;
    let stall = hub.fault(Fault::on(Where::blobs()).does(What::StallAfter(1_000)));
    let stalled = send(&hub.host(), "GET", &path, &[]).await;
    hub.wait_for(|asked| asked.iter().any(|it| it.body_sent() == 1_000))
        .await;
    hub.heal(stall);
    assert_eq!(hub.connections(), 1);
    drop(stalled);
    hub.wait_for(|_| hub.connections() == 0).await;

    let half = hub.fault(
        Fault::on(Where::blobs().get())
            .times(1)
            .does(What::Gate(Some(50_000))),
    );
    let first = hub.fault(
        Fault::on(Where::blobs().get())
            .times(1)
            .does(What::Gate(None)),
    );
    let (body, head, ()) = tokio::join!(get(&hub, &path), get(&hub, &path), async {
        hub.wait_for(|asked| asked.iter().any(|it| it.body_sent() == 50_000))
            .await;
        hub.wait_for(|asked| asked.iter().any(|it| it.status() == 0))
            .await;
        hub.open(half);
        hub.open(first);
    });
    assert!(body.body == bytes && head.body == bytes);
}

#[tokio::test]
async fn hub_strikes_where_when_and_as_often_as_it_is_told() {
    let hub = Hub::start().await;
    let digest = hub.put_manifest("a", Some("t"), "text/x", "{}");
    let status = |code| What::Status(code, &[("retry-after", "7")], "slow down");
    let first = hub.fault(
        Fault::on(Where::manifests().digest(&digest))
            .times(1)
            .does(status(500)),
    );
    hub.fault(Fault::on(Where::manifests().path("/a/").query("x=")).does(status(501)));
    let second = hub.fault(
        Fault::on(Where::manifests())
            .after(1)
            .times(2)
            .does(status(429)),
    );
    hub.fault(Fault::on(Where::kind(Kind::Ping).head()).does(status(418)));
    hub.fault(Fault::on(Where::tokens().at(Listener::Registry)).does(status(500)));
    hub.fault(Fault::on(Where::anything().with_header("range")).does(status(502)));
    let by_digest = format!("/v2/a/manifests/{digest}");
    let mut seen = Vec::new();
    for path in [
        &*by_digest,
        "/v2/a/manifests/t?x=1",
        "/v2/a/manifests/t",
        "/v2/a/manifests/t",
    ] {
        seen.push(get(&hub, path).await.status);
    }
    assert_eq!(seen, [500, 501, 200, 429]);
    let struck = |ids: [FaultId; 2]| ids.map(|id| hub.struck(id));
    assert_eq!(struck([first, second]), [1, 1]);
    let struck = get(&hub, "/v2/a/manifests/t").await;
    assert_eq!(
        (struck.header("retry-after"), &*struck.body),
        (Some("7"), &b"slow down"[..])
    );
    assert_eq!(get(&hub, "/v2/a/manifests/t").await.status, 200);
    assert_eq!(get(&hub, "/v2/").await.status, 200);
    assert_eq!(ask(&hub.host(), "HEAD", "/v2/", &[]).await.status, 418);
    hub.heal_all();
    assert_eq!(
        ask(&hub.host(), "GET", "/v2/", &["Range: bytes=0-"])
            .await
            .status,
        200
    );
}

/// The answer to a `GET` of the blob, with that range, under that fault.
async fn under(what: What, range: &str) -> (Answer, Vec<u8>) {
    let (hub, path, bytes) = with_blob(Hub::builder()).await;
    hub.fault(Fault::on(Where::blobs()).does(what));
    let header = format!("Range: bytes={range}");
    let headers = if range.is_empty() {
        vec![]
    } else {
        vec![header.as_str()]
    };
    let answer = ask(&hub.host(), "GET", &path, &headers).await;
    hub.join().await;
    (answer, bytes)
}

#[tokio::test]
async fn hub_lies_about_what_it_sends() {
    let (answer, bytes) = under(What::WrongDigestHeader, "").await;
    assert_ne!(
        answer.header("docker-content-digest"),
        Some(&*sha256(&bytes))
    );
    assert_eq!(
        under(What::NoDigestHeader, "")
            .await
            .0
            .header("docker-content-digest"),
        None
    );
    assert_eq!(
        under(What::NoContentType, "")
            .await
            .0
            .header("content-type"),
        None
    );
    assert_eq!(under(What::Body(b"no".to_vec()), "").await.0.body, b"no");
    let twice = under(What::Header("content-length", "5".into()), "")
        .await
        .0;
    assert_eq!(twice.head.matches("content-length: ").count(), 2);

    let (flipped, bytes) = under(What::FlipBit(10), "").await;
    assert!(flipped.body[10] == bytes[10] ^ 1 && flipped.body[11..] == bytes[11..]);
    assert_eq!(
        under(What::FlipBit(10), "9-10").await.0.body,
        [bytes[9], bytes[10] ^ 1]
    );
    assert_eq!(
        under(What::FlipBit(10), "11-12").await.0.body,
        bytes[11..13]
    );

    let (ignored, _) = under(What::IgnoreRange, "5-").await;
    assert_eq!((ignored.status, ignored.body), (200, bytes.clone()));
    let (shifted, _) = under(What::WrongContentRange, "5-9").await;
    assert_eq!(shifted.header("content-range"), Some("bytes 6-10/100000"));
    assert_eq!(shifted.body, bytes[5..10]);
}

#[tokio::test]
async fn hub_answers_something_else_altogether() {
    let (page, bytes) = under(What::Html, "").await;
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    let (packed, _) = under(What::Gzip, "").await;
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let mut unpacked = Vec::new();
    let mut gzip = flate2::read::GzDecoder::new(&packed.body[..]);
    std::io::Read::read_to_end(&mut gzip, &mut unpacked).unwrap();
    assert_eq!(unpacked, bytes);

    let (elsewhere, _) = under(What::Redirect(302, "/there".into()), "").await;
    assert_eq!(
        (elsewhere.status, elsewhere.header("location")),
        (302, Some("/there"))
    );
    let round = under(What::RedirectLoop, "").await.0;
    assert!(round.header("location").unwrap().contains(&sha256(&bytes)));
    let lines = vec![
        "Basic realm=\"a\"".to_owned(),
        "Bearer realm=\"b\"".to_owned(),
    ];
    let (refused, _) = under(What::Challenge(lines), "").await;
    assert_eq!(
        (
            refused.status,
            refused.head.matches("www-authenticate: ").count()
        ),
        (401, 2)
    );
}

/// The bytes in a chunked body, and whether it came to its end.
fn unchunked(mut body: &[u8]) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    while let Some(at) = body.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&body[..at]).expect("a chunk size");
        let size = usize::from_str_radix(size, 16).expect("a chunk size in hex");
        if size == 0 {
            return (bytes, true);
        }
        let Some(chunk) = body.get(at + 2..at + 2 + size) else {
            break;
        };
        bytes.extend_from_slice(chunk);
        body = &body[at + 4 + size..];
    }
    (bytes, false)
}

#[tokio::test]
async fn hub_lies_about_how_much_it_sends() {
    for (by, said) in [(-10, "99990"), (10, "100010")] {
        let (answer, bytes) = under(What::WrongLength(by), "").await;
        assert_eq!(answer.header("content-length"), Some(said));
        assert_eq!(answer.body, bytes);
    }
    let (answer, bytes) = under(What::NoLength, "").await;
    assert_eq!(answer.header("content-length"), None);
    assert_eq!(unchunked(&answer.body), (bytes, true));
    let (answer, bytes) = under(What::ExtraBytes(3), "").await;
    assert_eq!(
        unchunked(&answer.body),
        ([bytes, b"xxx".to_vec()].concat(), true)
    );

    let (hub, path, bytes) = with_blob(Hub::builder()).await;
    hub.fault(Fault::on(Where::blobs()).times(1).does(What::NoLength));
    let head = ask(&hub.host(), "HEAD", &path, &[]).await;
    assert_eq!((head.status, head.header("content-length")), (200, None));
    hub.fault(
        Fault::on(Where::blobs())
            .does(What::Endless)
            .does(What::ResetAfter(10)),
    );
    assert_eq!(
        unchunked(&get(&hub, &path).await.body),
        (bytes[..10].to_vec(), false)
    );
    hub.heal_all();
    hub.fault(Fault::on(Where::blobs()).does(What::Endless));
    let mut endless = send(&hub.host(), "GET", &path, &[]).await;
    let mut much = vec![0; 3 * bytes.len()];
    endless.read_exact(&mut much).await.unwrap();
    drop(endless);
    hub.wait_for(|_| hub.connections() == 0).await;
}

#[tokio::test]
async fn hub_takes_its_time() {
    let under_time = async |what| {
        let start = Instant::now();
        let (answer, bytes) = under(what, "").await;
        assert_eq!(answer.body, bytes);
        start.elapsed()
    };
    assert!(under_time(What::Delay(Duration::from_millis(80))).await >= Duration::from_millis(80));
    let hub = Hub::start().await;
    get(&hub, "/v2/").await;
    hub.fault(
        Fault::on(Where::anything())
            .times(1)
            .does(What::Delay(Duration::from_millis(50))),
    );
    get(&hub, "/v2/").await;
    get(&hub, "/v2/").await;
    let times: Vec<_> = hub.asked().iter().map(|asked| asked.at).collect();
    assert!(times[2] - times[1] >= Duration::from_millis(50));
    let slow_head = under_time(What::HeadersByteByByte(Duration::from_millis(1))).await;
    assert!(slow_head >= Duration::from_millis(100), "{slow_head:?}");
    let slow_body = under_time(What::Rate(1_000_000)).await;
    assert!(slow_body >= Duration::from_millis(85), "{slow_body:?}");
}

#[tokio::test]
async fn hub_shares_its_link_among_all_downloads() {
    let (hub, path, bytes) = with_blob(Hub::builder().cdn().link(1_000_000)).await;
    let location = get(&hub, &path)
        .await
        .header("location")
        .unwrap()
        .to_owned();
    let path = location
        .strip_prefix(&format!("http://{}", hub.cdn_host()))
        .unwrap();
    let start = Instant::now();
    let host = hub.cdn_host();
    let download = || ask(&host, "GET", path, &[]);
    let (one, two) = tokio::join!(download(), download());
    assert!(one.body == bytes && two.body == bytes);
    let took = start.elapsed();
    assert!(
        took >= Duration::from_millis(185) && took < Duration::from_secs(2),
        "{took:?}"
    );
}

#[tokio::test]
async fn hub_answers_many_requests_on_one_connection() {
    let (hub, path, bytes) = with_blob(Hub::builder()).await;
    let mut stream = TcpStream::connect(hub.host()).await.unwrap();
    let one = format!("GET {path} HTTP/1.1\r\nRange: bytes=0-9\r\n\r\n");
    for requests in [1, 2] {
        stream
            .write_all(one.repeat(requests).as_bytes())
            .await
            .unwrap();
        let mut answers = Vec::new();
        while answers
            .windows(10)
            .filter(|ten| *ten == &bytes[..10])
            .count()
            < requests
        {
            assert!(stream.read_buf(&mut answers).await.unwrap() > 0);
        }
    }
    assert_eq!((hub.connections(), hub.blob_gets()), (1, 3));
}

#[tokio::test]
#[should_panic(expected = "a request line that is none")]
async fn hub_fails_the_test_whose_client_speaks_no_http() {
    let hub = Hub::start().await;
    let mut stream = TcpStream::connect(hub.host()).await.unwrap();
    stream.write_all(b"FETCH ME\r\n\r\n").await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    hub.join().await;
}

#[tokio::test]
#[should_panic(expected = "the hub panicked")]
async fn hub_fails_the_test_also_when_nobody_asks_how_it_went() {
    let hub = Hub::start().await;
    let mut stream = TcpStream::connect(hub.host()).await.unwrap();
    stream.write_all(b"GET\r\n\r\n").await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    hub.wait_for(|_| hub.connections() == 0).await;
    drop(hub);
}
