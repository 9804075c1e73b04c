//! From when until when a certificate holds: as much of X.509 as that needs. RFC 5280 §4.1.

use std::time::SystemTime;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// When a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From when on.
    pub start: SystemTime,
    /// Until when.
    pub end: SystemTime,
    /// Whether it names itself as its issuer: an authority of its own, most likely.
    pub is_self_issued: bool,
}

impl Validity {
    /// Of a certificate, DER.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (certificate, _) = value(certificate, SEQUENCE)?;
        let (signed, _) = value(certificate, SEQUENCE)?;
        let rest = value(signed, VERSION).map_or(signed, |(_, rest)| rest);
        let (_serial, rest) = value(rest, INTEGER)?;
        let (_algorithm, rest) = value(rest, SEQUENCE)?;
        let (issuer, rest) = value(rest, SEQUENCE)?;
        let (validity, rest) = value(rest, SEQUENCE)?;
        let subject = value(rest, SEQUENCE).map(|(subject, _)| subject);
        let (start, rest) = time(validity)?;
        let (end, _) = time(rest)?;
        Some(Self {
            start,
            end,
            is_self_issued: subject == Some(issuer),
        })
    }

    /// When two thirds of it are over.
    pub(super) fn renewal(&self) -> SystemTime {
        let life = self.end.duration_since(self.start).unwrap_or_default();
        self.start.checked_add(life / 3 * 2).unwrap_or(self.end)
    }
}

/// The value that DER begins with, if it is of this kind, and what comes after it.
fn value(der: &[u8], kind: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.split_first()?;
    let (&length, rest) = rest.split_first()?;
    if first != kind {
        return None;
    }
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        let fold = |length, digit: &u8| length << 8 | usize::from(*digit);
        (digits.iter().fold(0, fold), rest)
    };
    rest.split_at_checked(length)
}

fn time(der: &[u8]) -> Option<(SystemTime, &[u8])> {
    let (text, rest, century) = if let Some((text, rest)) = value(der, UTC_TIME) {
        // RFC 5280 §4.1.2.5.1
        let century = if *text.first()? < b'5' { "20" } else { "19" };
        (text, rest, century)
    } else {
        let (text, rest) = value(der, GENERALIZED_TIME)?;
        (text, rest, "")
    };
    let text = format!("{century}{}", std::str::from_utf8(text).ok()?);
    if text.len() != "YYYYMMDDhhmmssZ".len() || !text.is_ascii() {
        return None;
    }
    let part = |from, to| &text[from..to];
    let (date, clock) = (
        [part(0, 4), part(4, 6), part(6, 8)],
        [part(8, 10), part(10, 12), part(12, 15)],
    );
    let text = format!("{}T{}", date.join("-"), clock.join(":"));
    Some((humantime::parse_rfc3339(&text).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(start: i32, end: i32) -> Vec<u8> {
        let mut parameters = CertificateParams::new(["a.b".to_owned()]).unwrap();
        parameters.not_before = date_time_ymd(start, 1, 1);
        parameters.not_after = date_time_ymd(end, 12, 31);
        let key = KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_dates_of_a_certificate_are_read() {
        for (start, end) in [(2026, 2026), (1999, 2049), (1970, 2050), (2051, 4096)] {
            let validity = Validity::of(&certificate(start, end)).unwrap();
            let date = |text: String| humantime::parse_rfc3339(&text).unwrap();
            assert_eq!(validity.start, date(format!("{start}-01-01T00:00:00Z")));
            assert_eq!(validity.end, date(format!("{end}-12-31T00:00:00Z")));
        }
    }

    #[test]
    fn renewal_is_after_two_thirds() {
        let start = SystemTime::UNIX_EPOCH;
        let end = start + Duration::from_secs(90);
        let validity = Validity {
            start,
            end,
            is_self_issued: false,
        };
        let renewal = validity.renewal();
        assert_eq!(renewal, start + Duration::from_mins(1));
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_read_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            _ = Validity::of(&bytes);
        }

        #[test]
        fn a_damaged_certificate_is_read_or_not(at in 0..300_usize, byte in any::<u8>()) {
            let mut bytes = certificate(2026, 2027);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            _ = Validity::of(&bytes);
        }
    }
}
