//! SIGHUP: a changed configuration takes effect while everything goes on.

use serde_json::{Value, json};

use crate::support::authority::{Authority, Pair};
use crate::support::hub::{Fault, Hub, What, Where};
use crate::support::image::{Image, sha256};
use crate::support::programs::{Htpasswd, Larder, Options};

const READ: &str = "the configuration has been read again";
const KEPT: &str = "the configuration stays as it was";

fn upstream(hub: &Hub) -> Value {
    json!({ "url": hub.url(), "tokenhosts": [hub.token_host()] })
}

/// Reconfigures it, and expects that to be taken.
async fn change(larder: &mut Larder, path: &[&str], value: Value) -> String {
    larder.reconfigure(path, value);
    let said = larder.hang_up().await;
    assert!(said.contains(READ), "{said}");
    said
}

async fn status(larder: &Larder, user: Option<(&str, &str)>, path: &str) -> u16 {
    let mut request = larder.request("GET", path);
    if let Some((name, password)) = user {
        request = request.basic_auth(name, Some(password));
    }
    larder.send(request).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_come_and_go() {
    let (hub, quay) = (Hub::start().await, Hub::start().await);
    let image = Image::random(1, &[3000]);
    hub.push("library/x", "1", &image);
    hub.push("library/y", "1", &image);
    quay.push("org/x", "1", &image);
    let mut larder = Options::mirror_of(&hub).start().await;
    let (old, other, new) = (
        "/v2/docker.io/library/x/manifests/1",
        "/v2/docker.io/library/y/manifests/1",
        "/v2/quay.io/org/x/manifests/1",
    );
    assert_eq!(status(&larder, None, old).await, 200);
    assert_eq!(status(&larder, None, new).await, 404);
    change(&mut larder, &["upstreams", "quay.io"], upstream(&quay)).await;
    assert_eq!(status(&larder, None, old).await, 200);
    assert_eq!(status(&larder, None, new).await, 200);
    change(&mut larder, &["upstreams", "docker.io"], Value::Null).await;
    // What was kept can still be pulled; nobody is asked for what was not.
    hub.clear_log();
    assert_eq!(status(&larder, None, old).await, 200);
    assert_eq!(status(&larder, None, other).await, 404);
    assert!(hub.asked().is_empty(), "{:?}", hub.asked());
    assert_eq!(status(&larder, None, new).await, 200);
    change(&mut larder, &["upstreams", "docker.io"], upstream(&hub)).await;
    assert_eq!(status(&larder, None, other).await, 200);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_moves() {
    let (here, there) = (Hub::start().await, Hub::start().await);
    let image = Image::random(1, &[3000]);
    there.push("library/x", "1", &image);
    let mut larder = Options::mirror_of(&here).start().await;
    let path = "/v2/library/x/manifests/1";
    // A "no" is believed for some seconds, but not across a reload.
    assert_eq!(status(&larder, None, path).await, 404);
    change(&mut larder, &["upstreams", "docker.io"], upstream(&there)).await;
    assert_eq!(status(&larder, None, path).await, 200);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_is_allowed_and_forbidden() {
    let mut larder = Options::registry().start().await;
    let delete = async |larder: &Larder, bytes: &[u8]| {
        let digest = larder.push_blob("team/app", bytes).await;
        let request = larder.request("DELETE", &format!("/v2/team/app/blobs/{digest}"));
        larder.send(request).await.status
    };
    let key = ["storage", "delete", "enabled"];
    assert_eq!(delete(&larder, b"one").await, 202);
    change(&mut larder, &key, json!(false)).await;
    assert_eq!(delete(&larder, b"two").await, 405);
    change(&mut larder, &key, json!(true)).await;
    assert_eq!(delete(&larder, b"three").await, 202);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_rules_change_with_the_next_request() {
    let users = Htpasswd::new(&[("anna", "a"), ("bob", "b")]);
    let others = Htpasswd::new(&[("carl", "c")]);
    let (anna, bob, carl) = (Some(("anna", "a")), Some(("bob", "b")), Some(("carl", "c")));
    let mut larder = Options::registry().start().await;
    let digest = larder.push_blob("team/app", b"blob").await;
    let path = format!("/v2/team/app/blobs/{digest}");
    let all = async |larder: &Larder| {
        let mut seen = Vec::new();
        for user in [None, anna, bob, carl] {
            seen.push(status(larder, user, &path).await);
        }
        seen
    };
    assert_eq!(all(&larder).await, [200; 4]);
    let htpasswd = |users: &Htpasswd| json!({ "realm": "the larder", "path": users.path() });
    let auth = json!({ "htpasswd": htpasswd(&users) });
    change(&mut larder, &["auth"], auth).await;
    assert_eq!(all(&larder).await, [401, 200, 200, 401]);
    let rules = json!([{ "who": ["anna"], "may": ["pull"], "names": ["team/*"] }]);
    change(&mut larder, &["auth", "rules"], rules).await;
    let seen = all(&larder).await;
    assert_eq!((seen[0], seen[1], seen[3]), (401, 200, 401));
    assert!([401, 403].contains(&seen[2]), "{seen:?}");
    change(&mut larder, &["auth", "rules"], Value::Null).await;
    change(&mut larder, &["auth", "htpasswd"], htpasswd(&others)).await;
    assert_eq!(all(&larder).await, [401, 401, 401, 200]);
    change(&mut larder, &["auth"], Value::Null).await;
    assert_eq!(all(&larder).await, [200; 4]);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_changes_nothing_and_is_in_the_log() {
    let hub = Hub::start().await;
    hub.push("library/x", "1", &Image::random(1, &[3000]));
    let users = Htpasswd::new(&[("anna", "a")]);
    let htpasswd = json!({ "realm": "the larder", "path": users.path() });
    let options = Options::mirror_of(&hub).set(&["auth", "htpasswd"], htpasswd);
    let mut larder = options.start().await;
    let good = |auth: Value| {
        let root = larder.root();
        json!({
            "version": 0.1,
            "storage": { "filesystem": { "rootdirectory": root } },
            "http": { "addr": "127.0.0.1:0" },
            "auth": auth,
        })
        .to_string()
    };
    let absent_users = json!({ "htpasswd": { "realm": "x", "path": "/proc/nowhere/users" } });
    let cases = [
        "{".to_owned(),
        String::new(),
        "version: 7".to_owned(),
        good(json!({ "htpasword": {} })),
        good(absent_users),
        good(json!({ "none": null })).replace("127.0.0.1:0", "nonsense"),
    ];
    for text in cases {
        larder.rewrite(&text);
        let said = larder.hang_up().await;
        assert!(
            said.contains(KEPT) && said.contains("ERROR"),
            "{text}: {said}"
        );
        let path = "/v2/library/x/manifests/1";
        assert_eq!(status(&larder, None, path).await, 401, "{text}");
        assert_eq!(
            status(&larder, Some(("anna", "a")), path).await,
            200,
            "{text}"
        );
    }
    // The next one that is sound is taken.
    change(&mut larder, &["auth"], Value::Null).await;
    assert_eq!(status(&larder, None, "/v2/").await, 200);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_restart_is_said() {
    let mut larder = Options::registry().start().await;
    let said = change(&mut larder, &["http", "addr"], json!("127.0.0.1:1")).await;
    assert!(
        said.contains("WARN") && said.contains("http.addr has changed"),
        "{said}"
    );
    assert_eq!(status(&larder, None, "/v2/").await, 200);
    let said = change(&mut larder, &["http", "draintimeout"], json!("1s")).await;
    assert!(said.contains("http.draintimeout has changed"), "{said}");
    let said = change(&mut larder, &["storage", "delete", "enabled"], json!(false)).await;
    assert!(!said.contains("storage"), "{said}");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_go_on_across_a_change() {
    let hub = Hub::start().await;
    let bytes = Image::random(1, &[500_000]).blobs();
    let (_, bytes) = bytes
        .into_iter()
        .max_by_key(|(_, bytes)| bytes.len())
        .unwrap();
    let digest = hub.put_blob("library/x", bytes.clone());
    assert_eq!(digest, sha256(&bytes));
    let gate = hub.fault(Fault::on(Where::blobs().get()).does(What::Gate(Some(100_000))));
    let mut larder = Options::mirror_of(&hub).start().await;
    let request = larder.request("GET", &format!("/v2/library/x/blobs/{digest}"));
    let mut response = request.send().await.unwrap();
    let mut body = response.chunk().await.unwrap().unwrap().to_vec();
    assert!(body.len() < bytes.len());
    // Even its own upstream may go meanwhile.
    change(&mut larder, &["upstreams", "docker.io"], Value::Null).await;
    larder.rewrite("{");
    assert!(larder.hang_up().await.contains(KEPT));
    hub.open(gate);
    while let Some(chunk) = response.chunk().await.unwrap() {
        body.extend_from_slice(&chunk);
    }
    assert!(body == bytes);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_is_taken_from_elsewhere() {
    let authority = Authority::new("the tests");
    let (first, second) = (Pair::new(&authority.issue()), authority.issue());
    let elsewhere = Pair::new(&second);
    let options = Options::registry();
    let mut larder = options
        .tls(&first.certificate(), &first.key(), authority.certificate())
        .start()
        .await;
    larder.reconfigure(&["http", "tls", "certificate"], json!("/proc/nowhere.pem"));
    let said = larder.hang_up().await;
    assert!(
        said.contains(KEPT) && said.contains("/proc/nowhere.pem"),
        "{said}"
    );
    let new = json!({ "certificate": elsewhere.certificate(), "key": elsewhere.key() });
    change(&mut larder, &["http", "tls"], new).await;
    let client = crate::support::programs::client_trusting(Some(authority.certificate()));
    let request = client.build().unwrap().get(format!("{}/v2/", larder.url()));
    let answer = request.send().await.unwrap();
    let tls = answer.extensions().get::<reqwest::tls::TlsInfo>().unwrap();
    assert_eq!(tls.peer_certificate(), Some(&second.der[..]));
    larder.finish().await;
}
