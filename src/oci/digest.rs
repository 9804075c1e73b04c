//! Digests: the name of content is what its bytes hash to.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ring::digest::{Context, SHA256, SHA384, SHA512};

/// The hash functions a digest may use: those that Distribution accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// The registered default of the OCI image specification.
    Sha256,
    /// Accepted by Distribution, hardly seen.
    Sha384,
    /// Registered by the OCI image specification.
    Sha512,
}

impl Algorithm {
    /// Every algorithm, in the order in which directories are listed.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// The name before the colon; also a directory's name in the tree.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha384 => 96,
            Self::Sha512 => 128,
        }
    }
}

/// A digest as in `sha256:9f86d0…`: a known algorithm and lower-case hex of its exact length.
///
/// OCI image specification, `descriptor.md`, "Digests". Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    text: Arc<str>,
}

/// Why a text is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a digest: write sha256:, sha384: or sha512: and the hash in lower-case hex")]
pub struct DigestError;

impl Digest {
    /// The SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Which hash function made it.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The part after the colon.
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm.as_str().len() + 1..]
    }

    /// The whole, as in `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `bytes` are what this digest names.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        let mut hasher = Hasher::new(self.algorithm);
        hasher.update(bytes);
        hasher.finish() == *self
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (name, hex) = text.split_once(':').ok_or(DigestError)?;
        let algorithm = Algorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == name)
            .ok_or(DigestError)?;
        let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if hex.len() != algorithm.hex_length() || !hex.bytes().all(lower_hex) {
            return Err(DigestError);
        }
        Ok(Self {
            algorithm,
            text: text.into(),
        })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Hashes bytes as they pass, to a [`Digest`].
#[derive(Clone)]
pub struct Hasher {
    algorithm: Algorithm,
    state: Context,
}

impl Hasher {
    /// A hasher that has seen nothing yet.
    pub fn new(algorithm: Algorithm) -> Self {
        let state = Context::new(match algorithm {
            Algorithm::Sha256 => &SHA256,
            Algorithm::Sha384 => &SHA384,
            Algorithm::Sha512 => &SHA512,
        });
        Self { algorithm, state }
    }

    /// Which algorithm it computes.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
    }

    /// The digest of all bytes taken in.
    pub fn finish(self) -> Digest {
        let algorithm = self.algorithm;
        let mut text = String::with_capacity(algorithm.hex_length() + 8);
        text.push_str(algorithm.as_str());
        text.push(':');
        push_hex(&mut text, self.state.finish().as_ref());
        Digest {
            algorithm,
            text: text.into(),
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hasher({})", self.algorithm.as_str())
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hashes_are_those_of_the_standard() {
        assert_eq!(
            Digest::of(b"abc").as_str(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let mut hasher = Hasher::new(Algorithm::Sha512);
        hasher.update(b"a");
        hasher.update(b"bc");
        let digest = hasher.finish();
        assert!(digest.hex().starts_with("ddaf35a193617aba"));
        assert!(digest.matches(b"abc") && !digest.matches(b"abd"));
    }

    #[test]
    fn what_is_not_a_digest_is_refused() {
        let hex = "a".repeat(64);
        for text in [
            "",
            "sha256",
            "sha256:",
            &hex,
            &format!("sha256:{}", "a".repeat(63)),
            &format!("sha256:{}", "A".repeat(64)),
            &format!("sha512:{hex}"),
            &format!("md5:{}", "a".repeat(32)),
            &format!("sha256:{hex}\n"),
            &format!("sha256:../{}", "a".repeat(61)),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(DigestError), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_digest_reads_back_as_it_was_written(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let digest = Digest::of(&bytes);
            prop_assert_eq!(digest.as_str().parse::<Digest>(), Ok(digest.clone()));
        }

        #[test]
        fn any_text_is_a_digest_or_an_error(text in ".*") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.as_str(), text);
            }
        }
    }
}
