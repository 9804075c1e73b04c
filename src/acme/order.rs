//! One order: from an account to a certificate. RFC 8555 §7.4, RFC 8737.

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;

use crate::outbound;

use super::cache::{Kept, Pair};
use super::wire::Wire;
use super::{Acme, Failure, Settings};

/// How long the authority may take to look, and to make the certificate.
const PATIENCE: RetryPolicy = RetryPolicy::new().timeout(Duration::from_mins(3));

/// Gets a certificate, as the account that there is, or as a new one.
pub(super) async fn order(
    acme: &Acme,
    account: Option<serde_json::Value>,
) -> Result<Kept, Failure> {
    let settings = &acme.inner.settings;
    let (account, credentials) = self::account(settings, account).await?;
    let hosts = settings.hosts.iter().cloned();
    let names: Vec<_> = hosts.map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&names)).await?;
    prove(acme, &mut order).await?;
    if order.poll_ready(&PATIENCE).await? != OrderStatus::Ready {
        return Err(Failure::Refused(why_not(&mut order).await));
    }
    let key = order.finalize().await?;
    let certificate = order.poll_certificate(&PATIENCE).await?;
    Ok(Kept::new(settings, credentials, Pair { certificate, key }))
}

/// Lets the authority look: there is an answer for each name before it is told to.
async fn prove(acme: &Acme, order: &mut Order) -> Result<(), Failure> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let name = authorization.identifier().to_string();
        let Some(mut challenge) = authorization.challenge(ChallengeType::TlsAlpn01) else {
            let problem = format!("the authority does not offer tls-alpn-01 for {name}");
            return Err(Failure::Refused(problem));
        };
        let digest = challenge.key_authorization().digest();
        let answer = answer(&name, digest.as_ref())?;
        acme.challenges().insert(name, answer);
        challenge.set_ready().await?;
    }
    Ok(())
}

/// What the authority said about the names that it did not believe.
async fn why_not(order: &mut Order) -> String {
    let mut problems = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        if let Ok(state) = authorization.refresh().await {
            let said = state.challenges.iter();
            let said = said.filter_map(|challenge| challenge.error.as_ref());
            problems.extend(said.map(|problem| format!("{name}: {problem}")));
        }
    }
    if problems.is_empty() {
        return "the authority refuses the order".to_owned();
    }
    problems.join("; ")
}

async fn account(
    settings: &Settings,
    kept: Option<serde_json::Value>,
) -> Result<(Account, serde_json::Value), Failure> {
    let client = outbound::client(&settings.directory).map_err(Failure::Client)?;
    let builder = Account::builder_with_http(Box::new(Wire(client)));
    if let Some(kept) = kept
        && let Ok(credentials) = serde_json::from_value::<AccountCredentials>(kept.clone())
    {
        return Ok((builder.from_credentials(credentials).await?, kept));
    }
    let contact = settings
        .email
        .as_ref()
        .map(|email| format!("mailto:{email}"));
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let new = NewAccount {
        contact: &contact,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let directory = settings.directory.to_string();
    let (account, credentials) = builder.create(&new, directory, None).await?;
    let credentials = serde_json::to_value(&credentials).map_err(instant_acme::Error::from)?;
    Ok((account, credentials))
}

/// A certificate of our own that only who holds the account can have made. RFC 8737 §3.
fn answer(name: &str, digest: &[u8]) -> Result<Arc<CertifiedKey>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Client(error.to_string());
    let parameters = CertificateParams::new([name.to_owned()]);
    let mut parameters = parameters.map_err(|error| failed(&error))?;
    parameters.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate().map_err(|error| failed(&error))?;
    let certificate = parameters.self_signed(&key);
    let certificate = certificate.map_err(|error| failed(&error))?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let chain = vec![certificate.der().clone()];
    // Not read again: as intended, nobody else understands its critical extension.
    let key = ring::sign::any_supported_type(&key).map_err(|error| failed(&error))?;
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}
