//! Upload sessions: whoever started one goes on with it, and nobody else who may push there.

use std::fs;

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::protected;
use crate::registry::{open_upload, patch};
use crate::support::image::sha256;
use crate::support::programs::{Answer, Distribution, Htpasswd, Larder, Options};
use crate::support::signer::Kind;
use crate::support::token_service::{ISSUER, SERVICE, TokenService};

const UPLOADS: &str = "/v2/team/app/blobs/uploads/";
const PUSHERS: [(&str, &str); 2] = [("anna", "anna's password"), ("carl", "carl's password")];
const ANNA: usize = 0;
const CARL: usize = 1;

/// Two who may push to the same repositories.
fn two_pushers() -> (Options, Htpasswd) {
    let users = Htpasswd::new(&PUSHERS);
    let rules = json!([{ "who": "*", "may": ["pull", "push"], "names": "team/*" }]);
    let options = protected(Options::registry(), &users, &[("rules", rules)]);
    (options, users)
}

fn by(who: usize, request: RequestBuilder) -> RequestBuilder {
    let (name, password) = PUSHERS[who];
    request.basic_auth(name, Some(password))
}

/// Starts a session, and sends its first three bytes.
async fn started(
    larder: &Larder,
    as_somebody: impl Fn(RequestBuilder) -> RequestBuilder,
) -> String {
    let start = larder.request("POST", UPLOADS);
    let start = larder.send(as_somebody(start)).await;
    assert_eq!(start.status, 202, "{start:?}");
    let first = larder
        .request("PATCH", start.header("location"))
        .body("abc");
    let first = larder.send(as_somebody(first)).await;
    assert_eq!((first.status, first.header("range")), (202, "0-2"));
    first.header("location").to_owned()
}

/// Everything that can be done with a session.
async fn tried(
    larder: &Larder,
    location: &str,
    as_somebody: impl Fn(RequestBuilder) -> RequestBuilder,
) -> Vec<Answer> {
    let closing = format!("{location}&digest={}", sha256(b"abcX"));
    let mut answers = Vec::new();
    for (method, path, body) in [
        ("GET", location, ""),
        ("PATCH", location, "X"),
        ("PATCH", location.split('?').next().unwrap(), "X"),
        ("PUT", &closing, "X"),
        ("DELETE", location, ""),
    ] {
        let request = larder.request(method, path).body(body);
        answers.push(larder.send(as_somebody(request)).await);
    }
    answers
}

fn assert_unknown(answers: &[Answer]) {
    for answer in answers {
        let what = (answer.status, answer.code());
        assert_eq!(what, (404, "BLOB_UPLOAD_UNKNOWN".to_owned()), "{answer:?}");
    }
}

/// The session is where its first bytes left it, and ends as a blob.
async fn finished(
    larder: &Larder,
    location: &str,
    as_somebody: impl Fn(RequestBuilder) -> RequestBuilder,
) {
    let status = larder.send(as_somebody(larder.request("GET", location)));
    let status = status.await;
    assert_eq!((status.status, status.header("range")), (204, "0-2"));
    let close = format!("{location}&digest={}", sha256(b"abcdef"));
    let close = larder.request("PUT", &close).body("def");
    let closed = larder.send(as_somebody(close)).await;
    assert_eq!(closed.status, 201, "{closed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_who_may_push_there_finds_no_session() {
    let (options, _users) = two_pushers();
    let mut larder = options.start().await;
    let annas = started(&larder, |request| by(ANNA, request)).await;
    let other = UPLOADS.to_owned() + "0197a1f0-0000-7000-8000-000000000000?_state=0";
    let none = tried(&larder, &other, |request| by(CARL, request)).await;
    let refused = tried(&larder, &annas, |request| by(CARL, request)).await;
    assert_unknown(&refused);
    for (one, other) in refused.iter().zip(&none) {
        assert_eq!((one.status, &one.body), (other.status, &other.body));
    }
    // It survives a restart, and so does whose it is.
    larder.kill().await;
    larder.start_again().await;
    assert_unknown(&tried(&larder, &annas, |request| by(CARL, request)).await);
    finished(&larder, &annas, |request| by(ANNA, request)).await;
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_starter_nobody_wrote_down_is_everybodys() {
    let (options, _users) = two_pushers();
    let mut larder = options.start().await;
    let sessions = larder.tree().join("repositories/team/app/_uploads");
    let location = started(&larder, |request| by(ANNA, request)).await;
    let session = fs::read_dir(&sessions).unwrap().next().unwrap().unwrap();
    // As Distribution leaves one.
    fs::remove_file(session.path().join("owner")).unwrap();
    finished(&larder, &location, |request| by(CARL, request)).await;
    // Nor does it matter any more once nobody is asked for a name.
    let location = started(&larder, |request| by(ANNA, request)).await;
    larder.reconfigure(&["auth"], Value::Null);
    larder.hang_up().await;
    finished(&larder, &location, |request| request).await;
    let nobodys = open_upload(&larder, "team/app").await;
    let first = patch(&larder, &nobodys, b"abc").await;
    let session = fs::read_dir(&sessions).unwrap().next().unwrap().unwrap();
    assert!(!session.path().join("owner").exists());
    finished(&larder, first.header("location"), |request| request).await;
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tokens_it_is_the_subject_that_counts() {
    let service = TokenService::start(Kind::Es256).await;
    let home = tempfile::tempdir().unwrap();
    let keys = home.path().join("keys");
    fs::write(&keys, service.jwks()).unwrap();
    let token = json!({
        "realm": service.realm(), "service": SERVICE, "issuer": ISSUER, "jwks": keys,
    });
    let options = Options::registry().set(&["auth", "token"], token);
    let larder = options.start().await;
    let access = json!([{ "type": "repository", "name": "team/app", "actions": ["pull", "push"] }]);
    let id = service.signer().thumbprint();
    // A new token with each request, as from a client whose tokens run out.
    let of = |name: &'static str| {
        let (service, id, access) = (&service, &id, &access);
        move |request: RequestBuilder| request.bearer_auth(service.token(id, name, access))
    };
    let anns = started(&larder, of("ann")).await;
    for other in ["bob", ""] {
        assert_unknown(&tried(&larder, &anns, of(other)).await);
    }
    finished(&larder, &anns, of("ann")).await;
    // Who has no name has nothing to himself.
    let nobodys = started(&larder, of("")).await;
    finished(&larder, &nobodys, of("bob")).await;
    larder.finish().await;
}

/// Its collector walks the whole tree.
#[tokio::test(flavor = "multi_thread")]
async fn distribution_does_not_mind_whose_a_session_is() {
    let root = tempfile::tempdir().unwrap();
    let (options, _users) = two_pushers();
    let larder = options.on(root.path()).start().await;
    let location = started(&larder, |request| by(ANNA, request)).await;
    // It gives up on a tree without any blob.
    fs::create_dir_all(larder.tree().join("blobs")).unwrap();
    Distribution::garbage_collect(root.path(), &[])
        .await
        .expect_success();
    finished(&larder, &location, |request| by(ANNA, request)).await;
    larder.finish().await;
}
