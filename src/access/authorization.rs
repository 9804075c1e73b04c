//! The `Authorization` header, RFC 9110 §11.6.2.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::ANONYMOUS_TOKEN;

/// Longer ones are not read. A token with many scopes has some KiB.
const LONGEST: usize = super::jwt::LONGEST + 64;

/// Some clients leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a caller says of itself.
#[derive(PartialEq, Eq)]
pub(super) enum Given<'a> {
    /// Nothing, in one of the ways in which that is said.
    Nothing,
    /// A name and a password, which is bytes: RFC 7617 leaves open which.
    Basic { name: String, password: Vec<u8> },
    /// A token of some kind.
    Bearer(&'a str),
    /// Something else.
    Unreadable,
}

/// Reads the value of the header. The scheme's case does not matter, as the specification says.
pub(super) fn parse(value: Option<&str>) -> Given<'_> {
    let Some(value) = value.map(|value| value.trim_matches([' ', '\t'])) else {
        return Given::Nothing;
    };
    if value.is_empty() {
        return Given::Nothing;
    }
    if value.len() > LONGEST {
        return Given::Unreadable;
    }
    let (scheme, rest) = value.split_once([' ', '\t']).unwrap_or((value, ""));
    let rest = rest.trim_start_matches([' ', '\t']);
    if scheme.eq_ignore_ascii_case("basic") {
        basic(rest).unwrap_or(Given::Unreadable)
    } else if scheme.eq_ignore_ascii_case("bearer") {
        bearer(rest)
    } else {
        Given::Unreadable
    }
}

fn bearer(token: &str) -> Given<'_> {
    // It is no secret: no need to compare it in constant time.
    if token == ANONYMOUS_TOKEN {
        Given::Nothing
    } else {
        Given::Bearer(token)
    }
}

fn basic(encoded: &str) -> Option<Given<'_>> {
    let decoded = BASE64.decode(encoded).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let (name, password) = (&decoded[..colon], &decoded[colon + 1..]);
    if name.is_empty() && password.is_empty() {
        return Some(Given::Nothing);
    }
    // No name in the file is anything but UTF-8.
    Some(Given::Basic {
        name: str::from_utf8(name).ok()?.to_owned(),
        password: password.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    fn given(name: &str, password: &[u8]) -> Given<'static> {
        Given::Basic {
            name: name.to_owned(),
            password: password.to_vec(),
        }
    }

    #[test]
    fn nothing_is_said_in_several_ways() {
        for value in [
            None,
            Some(""),
            Some("  "),
            Some("Basic Og=="),
            Some("basic Og"),
            Some("Bearer anonymous"),
            Some("bearer  anonymous "),
        ] {
            assert!(parse(value) == Given::Nothing, "{value:?}");
        }
    }

    #[test]
    fn a_name_and_a_password_are_told_apart_at_the_first_colon() {
        let basic = |pair: &[u8]| format!("bAsIc  {}", STANDARD.encode(pair));
        assert!(parse(Some(&basic(b"ann:s3:cret"))) == given("ann", b"s3:cret"));
        assert!(parse(Some(&basic(b"ann:"))) == given("ann", b""));
        assert!(parse(Some(&basic(b":x"))) == given("", b"x"));
        assert!(parse(Some(&basic("\u{e4}nn:\u{f6}".as_bytes()))) == given("änn", "ö".as_bytes()));
        assert!(parse(Some(&basic(b"ann:\xff\0"))) == given("ann", b"\xff\0"));
        assert!(parse(Some("Basic YW5uOng")) == given("ann", b"x"));
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_nothing() {
        let long = format!("Bearer {}", "a".repeat(LONGEST));
        for value in [
            "Basic",
            "Basic YW5u",
            "Basic !!!",
            "Basic /zp4",
            "Basic YW5uOng= x",
            "Digest username=x",
            "Bearer:x",
            "Basic\u{a0}YW5uOng=",
            &long,
        ] {
            assert!(parse(Some(value)) == Given::Unreadable, "{value}");
        }
        assert!(parse(Some("Bearer")) == Given::Bearer(""));
        assert!(parse(Some("BEARER a.b.c")) == Given::Bearer("a.b.c"));
    }

    proptest! {
        #[test]
        fn any_header_is_read(value in "(?i)(basic|bearer|)[ \t]{0,2}[ -~é\u{a0}]{0,40}") {
            let _ = parse(Some(&value));
        }

        #[test]
        fn any_name_and_password_arrive(name in "[^:]{0,20}", password: Vec<u8>) {
            prop_assume!(!name.is_empty() || !password.is_empty());
            let mut pair = format!("{name}:").into_bytes();
            pair.extend(&password);
            let value = format!("Basic {}", STANDARD.encode(pair));
            prop_assert!(parse(Some(&value)) == given(&name, &password));
        }
    }
}
