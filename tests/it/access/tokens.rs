//! Tokens of a foreign token service, and those that are none of its.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::hub::Hub;
use crate::support::image::Image;
use crate::support::programs::{Answer, Larder, Options, Skopeo};
use crate::support::signer::{Kind, Signer};
use crate::support::token_service::{ISSUER, SERVICE, TokenService, claims};

const KINDS: [Kind; 3] = [Kind::Rs256, Kind::Es256, Kind::EdDsa];
const TAGS: &str = "/v2/team/app/tags/list";

/// A larder that believes the service, by its certificates or by its keys.
async fn larder(service: &TokenService, by_jwks: bool) -> (Larder, TempDir) {
    believing(Options::registry(), service, by_jwks).await
}

async fn believing(options: Options, service: &TokenService, by_jwks: bool) -> (Larder, TempDir) {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("keys");
    let (key, text) = if by_jwks {
        ("jwks", service.jwks())
    } else {
        ("rootcertbundle", service.bundle())
    };
    std::fs::write(&file, text).unwrap();
    let token = json!({
        "realm": service.realm(), "service": SERVICE, "issuer": ISSUER, key: file,
    });
    let options = options.set(&["auth", "token"], token);
    (options.start().await, home)
}

async fn send(larder: &Larder, method: &str, path: &str, token: &str) -> Answer {
    let request = larder.request(method, path).bearer_auth(token);
    larder.send(request).await
}

fn repository(actions: &[&str]) -> Value {
    json!([{ "type": "repository", "name": "team/app", "actions": actions }])
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_allow_what_they_say() {
    for kind in KINDS {
        for by_jwks in [false, true] {
            let service = TokenService::start(kind).await;
            let (larder, _home) = larder(&service, by_jwks).await;
            let id = service.signer().thumbprint();
            let token = |access: &Value| service.token(&id, "ann", access);
            let anonymous = larder.get(TAGS).await;
            assert_eq!(anonymous.status, 401);
            let challenge = anonymous.header("www-authenticate");
            let expected = format!(
                "Bearer realm=\"{}\",service=\"{SERVICE}\",scope=\"repository:team/app:pull\"",
                service.realm()
            );
            assert!(challenge.starts_with(&expected), "{challenge}");
            let (pull, push) = (repository(&["pull"]), repository(&["pull", "push"]));
            // Let through, but there is nothing.
            assert_eq!(send(&larder, "GET", TAGS, &token(&pull)).await.status, 404);
            let uploads = "/v2/team/app/blobs/uploads/";
            let refused = send(&larder, "POST", uploads, &token(&pull)).await;
            assert_eq!(refused.status, 401, "{kind:?} {by_jwks}");
            let challenge = refused.header("www-authenticate");
            assert!(
                challenge.contains("error=\"insufficient_scope\""),
                "{challenge}"
            );
            let started = send(&larder, "POST", uploads, &token(&push)).await;
            assert_eq!(started.status, 202, "{kind:?} {by_jwks}: {started:?}");
            let location = started.header("location");
            let cancelled = send(&larder, "DELETE", location, &token(&push)).await;
            assert_eq!(cancelled.status, 204);
            let other = "/v2/team/other/tags/list";
            assert_eq!(send(&larder, "GET", other, &token(&push)).await.status, 401);
            let catalog = json!([{ "type": "registry", "name": "catalog", "actions": ["*"] }]);
            for (access, status) in [(&catalog, 200), (&push, 401)] {
                let listed = send(&larder, "GET", "/v2/_catalog", &token(access)).await;
                assert_eq!(listed.status, status);
            }
            larder.finish().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_one_upstreams_repository_opens_none_of_another() {
    let service = TokenService::start(Kind::Es256).await;
    let (docker_hub, ghcr) = (Hub::start().await, Hub::start().await);
    for (seed, hub) in [(1, &docker_hub), (2, &ghcr)] {
        hub.push("library/x", "1", &Image::random(seed, &[3000]));
    }
    let options = Options::mirror_of(&docker_hub).upstream("ghcr.io", &ghcr);
    let (larder, _home) = believing(options, &service, true).await;
    let id = service.signer().thumbprint();
    let token = |name: &str| {
        let access = json!([{ "type": "repository", "name": name, "actions": ["pull"] }]);
        service.token(&id, "ann", &access)
    };
    // dockerd asks for a token by the name it knows; so does containerd, and for what it was
    // challenged with as well.
    let bare = "/v2/library/x/manifests/1";
    for name in ["library/x", "docker.io/library/x"] {
        assert_eq!(send(&larder, "GET", bare, &token(name)).await.status, 200);
    }
    for path in [
        "/v2/library/x/manifests/1?ns=ghcr.io",
        "/ghcr.io/v2/library/x/manifests/1",
        "/v2/ghcr.io/library/x/manifests/1",
    ] {
        for name in ["library/x", "docker.io/library/x"] {
            let refused = send(&larder, "GET", path, &token(name)).await;
            assert_eq!(refused.status, 401, "{path} with {name}");
            let challenge = refused.header("www-authenticate");
            let scope = "scope=\"repository:ghcr.io/library/x:pull\"";
            assert!(challenge.contains(scope), "{path}: {challenge}");
        }
        let opened = send(&larder, "GET", path, &token("ghcr.io/library/x")).await;
        assert_eq!(opened.status, 200, "{path}");
    }
    let opened = send(&larder, "GET", bare, &token("ghcr.io/library/x")).await;
    assert_eq!(opened.status, 401);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_tokens_are_refused() {
    for kind in KINDS {
        let service = TokenService::start(kind).await;
        let (larder, _home) = larder(&service, true).await;
        let signer = service.signer();
        let header = json!({ "kid": signer.thumbprint() });
        let good = claims("ann", &repository(&["pull"]));
        let with = |key: &str, value: Value| {
            let mut claims = good.clone();
            claims[key] = value;
            signer.sign(header.clone(), &claims)
        };
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let unsigned = format!(
            "{}.{}.",
            encode(r#"{"alg":"none"}"#),
            encode(&good.to_string())
        );
        // There is one RSA key only, so that of another kind.
        let foreign = Signer::new(Kind::Es256).sign(header.clone(), &good);
        assert_eq!(
            send(&larder, "GET", TAGS, &with("jti", json!("2")))
                .await
                .status,
            404
        );
        for (what, token) in [
            ("expired", with("exp", json!(1_000_000_000))),
            ("not yet good", with("nbf", json!(4_000_000_000_u64))),
            ("of another audience", with("aud", json!("other"))),
            ("of another issuer", with("iss", json!("other"))),
            ("unsigned", unsigned),
            ("foreign", foreign),
            ("long", with("x", json!("x".repeat(20_000)))),
            ("no token", "a.b.c".to_owned()),
        ] {
            let answer = send(&larder, "GET", TAGS, &token).await;
            assert_eq!(answer.status, 401, "{kind:?} {what}: {answer:?}");
            let challenge = answer.header("www-authenticate");
            assert!(
                challenge.contains("error=\"invalid_token\""),
                "{what}: {challenge}"
            );
        }
        let token = with("jti", json!("3"));
        assert_eq!(send(&larder, "GET", TAGS, &token).await.status, 404);
        larder.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_fetches_tokens_and_pushes_and_pulls_with_them() {
    for kind in KINDS {
        let service = TokenService::start(kind).await;
        service.user("ann", "secret", &[("team/app", &["pull", "push"])]);
        service.user("", "", &[("team/app", &["pull"])]);
        let (larder, _home) = larder(&service, false).await;
        let skopeo = Skopeo::new();
        let source = Options::registry().start().await;
        source.push("x", "1", &Image::random(1, &[3000])).await;
        let from = format!("docker://{}/x:1", source.address());
        let to = format!("docker://{}/team/app:1", larder.address());
        let refused = skopeo.try_copy(&[], &from, &to).await;
        assert!(!refused.success, "{refused:?}");
        let login = ["--dest-creds", "ann:secret"];
        skopeo.try_copy(&login, &from, &to).await.expect_success();
        assert!(skopeo.inspect(&to).await["Digest"].is_string());
        larder.finish().await;
        source.finish().await;
    }
}
