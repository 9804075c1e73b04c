//! The token service of the tests does what a registry asks of one: Debian's `docker-registry`
//! takes its tokens, and so does larder's own verifier.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use larder::access::jwt::Verifier;
use larder::access::{Action, TokenSettings, Wanted};
use serde_json::{Value, json};

use crate::support::programs::{Distribution, DistributionOptions, TokenAuth};
use crate::support::signer::{Kind, Signer};
use crate::support::token_service::{ISSUER, SERVICE, TokenService, claims};

const KINDS: [Kind; 3] = [Kind::Rs256, Kind::Es256, Kind::EdDsa];

async fn service(kind: Kind) -> TokenService {
    let service = TokenService::start(kind).await;
    service.user("ann", "secret", &[("team/app", &["pull", "push"])]);
    service.user("", "", &[("public", &["pull"])]);
    service
}

fn client() -> reqwest::Client {
    // Somebody else may have been first.
    _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

async fn get(url: &str, user: Option<(&str, &str)>) -> (u16, Value) {
    let mut request = client().get(url);
    if let Some((name, password)) = user {
        request = request.basic_auth(name, Some(password));
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

/// The status of `GET /v2/`.
async fn ping(registry: &Distribution, token: Option<&str>) -> u16 {
    let mut request = client().get(format!("{}/v2/", registry.url()));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.unwrap().status().as_u16()
}

fn verifier(service: &TokenService, jwks: bool) -> Verifier {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = if jwks {
        service.jwks()
    } else {
        service.bundle()
    };
    std::fs::write(file.path(), text).unwrap();
    let path = Some(file.path().to_owned());
    let settings = TokenSettings {
        realm: service.realm(),
        service: SERVICE.to_owned(),
        issuer: ISSUER.to_owned(),
        jwks: path.clone().filter(|_| jwks),
        root_cert_bundle: path.filter(|_| !jwks),
        ..TokenSettings::default()
    };
    Verifier::new(&settings).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_say_what_their_user_may() {
    for kind in KINDS {
        let service = service(kind).await;
        let scope = "scope=repository:team/app:pull,push,delete&scope=repository:public:pull";
        let url = format!("{}?service={SERVICE}&{scope}", service.realm());
        let verifier = verifier(&service, false);
        let allowed = |body: &Value| {
            let token = body["token"].as_str().unwrap();
            let grant = verifier.verify(token, SystemTime::now()).unwrap();
            let wanted = [
                ("team/app", Action::Push),
                ("team/app", Action::Delete),
                ("public", Action::Pull),
            ];
            wanted.map(|(name, action)| grant.allows(&Wanted::Repository(name, action)))
        };
        let (status, body) = get(&url, Some(("ann", "secret"))).await;
        assert_eq!(
            (status, allowed(&body)),
            (200, [true, false, false]),
            "{kind:?}"
        );
        let (status, body) = get(&url, None).await;
        assert_eq!(
            (status, allowed(&body)),
            (200, [false, false, true]),
            "{kind:?}"
        );
        let (status, _) = get(&url, Some(("ann", "wrong"))).await;
        assert_eq!(status, 401);
        let (status, _) = get(&url.replace(SERVICE, "other"), None).await;
        assert_eq!(status, 400);
        assert_eq!(service.asked().len(), 4);
        assert!(service.asked()[0].starts_with("ann repository:team/app:pull,push,delete "));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_keys_are_known_by_all_their_names() {
    for kind in KINDS {
        let service = service(kind).await;
        let signer = service.signer();
        let (bundle, jwks) = (verifier(&service, false), verifier(&service, true));
        for (id, in_bundle, in_jwks) in [
            (signer.thumbprint(), true, true),
            (signer.libtrust_id(), true, false),
            ("other".to_owned(), false, false),
        ] {
            let token = service.token(&id, "ann", &json!([]));
            let now = SystemTime::now();
            assert_eq!(
                bundle.verify(&token, now).is_ok(),
                in_bundle,
                "{kind:?} {id}"
            );
            assert_eq!(jwks.verify(&token, now).is_ok(), in_jwks, "{kind:?} {id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn distribution_takes_its_tokens() {
    // Distribution 2 knows no Ed25519.
    for kind in [Kind::Rs256, Kind::Es256] {
        let service = service(kind).await;
        let bundle = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(bundle.path(), service.bundle()).unwrap();
        let registry = Distribution::start(&DistributionOptions {
            token_auth: Some(TokenAuth {
                realm: service.realm(),
                service: SERVICE.to_owned(),
                issuer: ISSUER.to_owned(),
                root_cert_bundle: bundle.path().to_owned(),
            }),
            ..DistributionOptions::default()
        })
        .await;
        let url = format!("{}?service={SERVICE}", service.realm());
        let (_, body) = get(&url, Some(("ann", "secret"))).await;
        // And one of a key that only a certificate speaks for.
        let leaf = Signer::new(Kind::Es256);
        let chain = json!([STANDARD.encode(service.signer().certify(&leaf))]);
        let certified = leaf.sign(json!({ "x5c": chain }), &claims("ann", &json!([])));
        for token in [body["token"].as_str().unwrap(), &certified] {
            assert!(
                verifier(&service, false)
                    .verify(token, SystemTime::now())
                    .is_ok()
            );
            assert_eq!(
                ping(&registry, Some(token)).await,
                200,
                "{}",
                registry.log()
            );
        }
        let foreign = Signer::new(Kind::Es256).sign(json!({ "x5c": chain }), &json!({}));
        assert_eq!(ping(&registry, Some(&foreign)).await, 401);
        assert_eq!(ping(&registry, None).await, 401);
    }
}
