//! As much DER as it takes to read a public key, X.690 and RFC 5280 §4.1.2.7.

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// What a `SubjectPublicKeyInfo` says.
pub(super) struct PublicKeyInfo<'a> {
    /// The object identifier of the kind of key.
    pub(super) algorithm: &'a [u8],
    /// The object identifier that follows it: the curve.
    pub(super) curve: Option<&'a [u8]>,
    /// The key itself.
    pub(super) key: &'a [u8],
}

/// The two integers of an RSA key, without leading zeros.
pub(super) struct RsaKey<'a> {
    pub(super) n: &'a [u8],
    pub(super) e: &'a [u8],
}

/// Reads a `SubjectPublicKeyInfo`.
pub(super) fn public_key_info(der: &[u8]) -> Option<PublicKeyInfo<'_>> {
    let (info, []) = read(der, SEQUENCE)? else {
        return None;
    };
    let (identifier, rest) = read(info, SEQUENCE)?;
    let (algorithm, parameters) = read(identifier, OBJECT_IDENTIFIER)?;
    let (bits, []) = read(rest, BIT_STRING)? else {
        return None;
    };
    // The number of unused bits of the last byte comes first; keys are whole bytes.
    let (0, key) = bits.split_first()? else {
        return None;
    };
    Some(PublicKeyInfo {
        algorithm,
        curve: read(parameters, OBJECT_IDENTIFIER).map(|(curve, _)| curve),
        key,
    })
}

/// Reads an `RSAPublicKey`, RFC 8017 §A.1.1.
pub(super) fn rsa_key(der: &[u8]) -> Option<RsaKey<'_>> {
    let (key, []) = read(der, SEQUENCE)? else {
        return None;
    };
    let (n, rest) = read(key, INTEGER)?;
    let (e, []) = read(rest, INTEGER)? else {
        return None;
    };
    Some(RsaKey {
        n: without_zeros(n),
        e: without_zeros(e),
    })
}

/// A number's bytes as a key has them.
pub(super) fn without_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}

/// Content as a SEQUENCE: what libraries hand out without its head.
pub(super) fn sequence(content: &[u8]) -> Vec<u8> {
    let mut der = vec![SEQUENCE];
    let length = content.len();
    if length < 0x80 {
        der.extend(u8::try_from(length));
    } else {
        let bytes = length.to_be_bytes();
        let bytes = without_zeros(&bytes);
        der.extend(u8::try_from(bytes.len()).map(|count| 0x80 | count));
        der.extend(bytes);
    }
    der.extend(content);
    der
}

/// The content of the value that comes first, if it has that tag, and what follows it.
fn read(der: &[u8], expected: u8) -> Option<(&[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    if *tag != expected {
        return None;
    }
    let (length, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        // Four bytes of length are more than any key has.
        long @ 0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            let length = length
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_are_short_or_long() {
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let der = sequence(&vec![7; length]);
            let (content, rest) = read(&der, SEQUENCE).unwrap();
            assert_eq!((content.len(), rest.len()), (length, 0));
            assert!(read(&der[..der.len() - 1], SEQUENCE).is_none());
        }
        assert!(read(&[SEQUENCE, 0x80], SEQUENCE).is_none());
        assert!(read(&[SEQUENCE, 0x85, 0, 0, 0, 0, 0], SEQUENCE).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let _ = public_key_info(&bytes);
            let _ = rsa_key(&bytes);
            let _ = public_key_info(&sequence(&bytes));
        }
    }
}
