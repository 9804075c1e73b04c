//! Headers, which are written as a name with a list of values, and the addresses of requests that larder sends
//! of its own accord.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use url::Url;

use super::notice::ConfigError;
use super::reader::{Field, Section, quoted};
use super::secret::Secret;

/// The headers of answers.
pub(super) fn read(section: Section<'_>) -> Result<Vec<(String, String)>, ConfigError> {
    let checked = checked(section)?.into_iter();
    checked
        .map(|(name, value)| Ok((name, value.text()?)))
        .collect()
}

/// Where a request of larder's own goes, and with what headers; these may be secrets. `key` is the key of the URL.
///
/// A user name and password in the URL become a header, as in Distribution: they must not be
/// where the URL is shown.
pub(super) fn request(
    section: &mut Section<'_>,
    key: &'static str,
) -> Result<(Url, Vec<(String, Secret)>), ConfigError> {
    let (mut url, login) = section.required(key, "https://example.com/path", address)?;
    let headers = checked(section.section("headers")?)?.into_iter();
    let headers = headers.map(|(name, value)| Ok((name, value.secret()?)));
    let mut headers: Vec<_> = headers.collect::<Result<_, ConfigError>>()?;
    let has_login = headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    if let Some(login) = login {
        // Cannot fail for http and https.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        if !has_login {
            headers.push(("Authorization".to_owned(), login));
        }
    }
    Ok((url, headers))
}

/// An http or https URL, and the value of `Authorization` that a user name in it stands for.
fn address(field: Field<'_>) -> Result<(Url, Option<Secret>), ConfigError> {
    let wrong = field.error("is not a URL; write for example https://example.com/path");
    let url = Url::parse(field.text()?.trim()).ok();
    let Some(url) = url.filter(|url| matches!(url.scheme(), "http" | "https")) else {
        // Not repeated in the message: there may be a password in it.
        return Err(wrong);
    };
    let decoded = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
    let login = (!url.username().is_empty() || url.password().is_some()).then(|| {
        let mut login = decoded(url.username());
        login.push(b':');
        login.extend(decoded(url.password().unwrap_or_default()));
        Secret::new(format!("Basic {}", STANDARD.encode(login)))
    });
    Ok((url, login))
}

/// Each value with its name. Checked here so that nothing can fail, or be smuggled into a message, later.
fn checked(section: Section<'_>) -> Result<Vec<(String, Field<'_>)>, ConfigError> {
    // Each of these tells where a message ends, and only its sender knows.
    const OWN: [&str; 5] = [
        "connection",
        "content-length",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let mut headers = Vec::new();
    for (name, field) in section.into_fields() {
        if !is_token(&name) {
            return Err(field.error(format!(
                "{} is not the name of an HTTP header",
                quoted(&name)
            )));
        }
        if OWN.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(field.error("is set by larder itself; remove it"));
        }
        for value in field.items() {
            let wrong = value.error("must be printable ASCII, on one line");
            if !value
                .clone()
                .text()?
                .bytes()
                .all(|byte| matches!(byte, b' '..=b'~'))
            {
                return Err(wrong);
            }
            headers.push((name.clone(), value));
        }
    }
    Ok(headers)
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}
