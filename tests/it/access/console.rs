//! The API under access rules: who sees and does what.

use serde_json::{Value, json};

use super::{Identity, USERS, protected, rules};
use crate::support::hub::Hub;
use crate::support::image::Image;
use crate::support::programs::{Answer, Htpasswd, Larder, Options};
use crate::support::until::until;

const READS: [&str; 6] = [
    "",
    "history",
    "repositories",
    "upstreams",
    "evictions",
    "search",
];

/// Anna's team has an image, Bob has one, and a mirror has one that Anna may pull.
async fn stocked(hub: &Hub, users: &Htpasswd, further: &[(&str, Value)]) -> Larder {
    let further = [&[("rules", rules())], further].concat();
    let larder = protected(Options::mirror_of(hub), users, &further)
        .start()
        .await;
    let image = Image::random(1, &[1000]);
    hub.push("library/x", "1", &image);
    for (who, name) in [(Identity::Anna, "team/app"), (Identity::Bob, "bob/own")] {
        for (digest, bytes) in image.blobs() {
            let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
            let push = who.request(&larder, "POST", &path).body(bytes);
            assert_eq!(larder.send(push).await.status, 201);
        }
        let path = format!("/v2/{name}/manifests/1");
        let put = who.request(&larder, "PUT", &path);
        let put = put.header("content-type", image.media_type());
        let put = larder.send(put.body(image.manifest_bytes())).await;
        assert_eq!(put.status, 201);
    }
    let anna = Identity::Anna;
    assert_eq!(
        anna.get(&larder, "/v2/library/x/manifests/1").await.status,
        200
    );
    for (digest, _) in image.blobs() {
        let path = format!("/v2/library/x/blobs/{digest}");
        assert_eq!(anna.get(&larder, &path).await.status, 200);
    }
    until("it is counted", async || {
        let state = api(&larder, anna, "").await.json();
        state["disk"]["counted"] == true && state["tags"] == 2
    })
    .await;
    larder
}

async fn api(larder: &Larder, who: Identity, path: &str) -> Answer {
    who.get(larder, &format!("/api/v1/{path}")).await
}

async fn act(larder: &Larder, who: Identity, method: &str, path: &str, body: &Value) -> Answer {
    let request = who.request(larder, method, &format!("/api/v1/{path}"));
    let request = request.header("x-larder-action", "1");
    larder.send(request.body(body.to_string())).await
}

/// The names in a list.
fn names(list: &Value, key: &str) -> Vec<String> {
    let rows = list.as_array().unwrap().iter();
    rows.map(|row| row[key].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_shows_each_only_what_he_may_pull() {
    let (hub, users) = (Hub::start().await, Htpasswd::new(&USERS));
    let larder = stocked(&hub, &users, &[]).await;
    for path in READS {
        for who in [Identity::Anonymous, Identity::WrongPassword] {
            let refused = api(&larder, who, path).await;
            assert_eq!(
                (refused.status, refused.code()),
                (401, "UNAUTHORIZED".into()),
                "{path}"
            );
            let challenge = refused.header("www-authenticate");
            assert_eq!(challenge, "Basic realm=\"the larder\"", "{path}");
            // A browser would ask for a password by itself.
            let path = format!("/api/v1/{path}");
            let quiet = who
                .request(&larder, "GET", &path)
                .header("x-requested-with", "larder");
            let quiet = larder.send(quiet).await;
            assert_eq!(
                (quiet.status, quiet.header("www-authenticate")),
                (401, ""),
                "{path}"
            );
        }
    }
    let state = api(&larder, Identity::Bob, "").await.json();
    let may = json!({ "delete": true, "warm": true, "pin": true });
    assert_eq!(
        state["you"],
        json!({ "name": "bob", "anonymous": false, "may": may })
    );
    assert_eq!(
        (&state["repositories"], &state["tags"]),
        (&json!(1), &json!(1))
    );
    for (who, expected) in [
        (Identity::Bob, vec!["bob/own"]),
        (Identity::Anna, vec!["docker.io/library/x", "team/app"]),
    ] {
        let listed = api(&larder, who, "repositories").await.json();
        assert_eq!(names(&listed["repositories"], "name"), expected, "{who:?}");
        let found = api(&larder, who, "search?q=:1").await.json();
        assert_eq!(names(&found["found"], "repository"), expected, "{who:?}");
        let next = api(&larder, who, "evictions").await.json();
        let seen = names(&next["next"], "repository");
        assert_eq!(seen.is_empty(), who == Identity::Bob, "{seen:?}");
        let upstreams = api(&larder, who, "upstreams").await.json();
        let images = &upstreams["upstreams"][0]["images"];
        assert_eq!(*images, json!(u8::from(who == Identity::Anna)), "{who:?}");
    }
    for path in READS
        .iter()
        .chain(&["tags?repository=bob/own", "repositories?origin=mirror"])
    {
        let answer = api(&larder, Identity::Bob, path).await;
        let text = String::from_utf8(answer.body).unwrap();
        assert!(
            !text.contains("team/app") && !text.contains("library/x"),
            "{path}: {text}"
        );
    }
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_hears_only_of_what_he_may_pull() {
    let (hub, users) = (Hub::start().await, Htpasswd::new(&USERS));
    let larder = stocked(&hub, &users, &[]).await;
    let refused = api(&larder, Identity::Anonymous, "events").await;
    assert_eq!(refused.status, 401);
    let mut bob = Identity::Bob
        .request(&larder, "GET", "/api/v1/events")
        .send()
        .await
        .unwrap();
    let mut heard = String::new();
    let body = json!({ "image": "x:1" });
    let warm = act(&larder, Identity::Anna, "POST", "warm", &body).await;
    assert_eq!(warm.status, 202, "{warm:?}");
    let path = format!("warm/{}", warm.json()["id"].as_str().unwrap());
    assert_eq!(api(&larder, Identity::Bob, &path).await.status, 404);
    for (who, name) in [(Identity::Anna, "team/app"), (Identity::Bob, "bob/own")] {
        let path = format!("tags?repository={name}&tag=1");
        let deleted = act(&larder, who, "DELETE", &path, &Value::Null).await;
        assert_eq!(deleted.status, 204);
    }
    while !heard.contains("event: changed") {
        let chunk = bob.chunk().await.unwrap().expect("events go on");
        heard.push_str(str::from_utf8(&chunk).unwrap());
    }
    assert!(heard.contains(r#"{"repository":"bob/own"}"#), "{heard}");
    assert!(
        !heard.contains("team/app") && !heard.contains("event: warm"),
        "{heard}"
    );
    drop(bob);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_does_only_what_he_may() {
    let (hub, users) = (Hub::start().await, Htpasswd::new(&USERS));
    let anonymous = [("anonymous", json!(["pull"]))];
    let larder = stocked(&hub, &users, &anonymous).await;
    // Looking needs no password here, but a wrong one is no login.
    let state = api(&larder, Identity::Anonymous, "").await.json();
    let nothing = json!({ "delete": false, "warm": false, "pin": false });
    assert_eq!(state["you"]["may"], nothing);
    assert_eq!(state["repositories"], 3);
    assert_eq!(api(&larder, Identity::WrongPassword, "").await.status, 401);
    let mirror = "repository=docker.io/library/x&tag=1";
    let tags = |who| api(&larder, who, "tags?repository=docker.io/library/x");
    assert_eq!(tags(Identity::Anonymous).await.json()["may"], nothing);
    let bobs = json!({ "delete": false, "warm": true, "pin": true });
    assert_eq!(tags(Identity::Bob).await.json()["may"], bobs);
    let wanted = json!({ "image": "x:1" });
    for (method, path, anonymous, bob, anna) in [
        ("PUT", format!("pins?{mirror}"), 401, 204, 204),
        ("POST", "warm".to_owned(), 401, 202, 202),
        ("DELETE", format!("pins?{mirror}"), 401, 204, 404),
        ("DELETE", format!("tags?{mirror}"), 401, 403, 204),
        (
            "DELETE",
            "tags?repository=team/app&tag=1".to_owned(),
            401,
            403,
            204,
        ),
    ] {
        for (who, expected) in [
            (Identity::Anonymous, anonymous),
            (Identity::Bob, bob),
            (Identity::Anna, anna),
        ] {
            let answer = act(&larder, who, method, &path, &wanted).await;
            assert_eq!(
                answer.status, expected,
                "{who:?} {method} {path}: {answer:?}"
            );
            assert_eq!(answer.header("www-authenticate"), "", "{method} {path}");
        }
    }
    larder.finish().await;
}
