//! Byte ranges: what a client asks for, what an upload continues, what an upstream resumes.

/// A part of a blob: `start` to `end`, both included, as HTTP counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte's offset.
    pub start: u64,
    /// The last byte's offset, never below `start`.
    pub end: u64,
}

impl ByteRange {
    /// How many bytes it spans, at least one.
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub fn len(self) -> u64 {
        // A client may claim a range up to the very last number there is.
        (self.end - self.start).saturating_add(1)
    }
}

/// What a `Range` header means for content of a known size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requested {
    /// All of it: no header, several ranges (RFC 9110 §14.2 lets a server ignore them), or any
    /// range of nothing.
    Whole,
    /// One part.
    Part(ByteRange),
    /// Nothing that there is: 416.
    Unsatisfiable,
}

/// Reads a `Range` header for content of `size` bytes.
///
/// Malformed text is [`Requested::Unsatisfiable`], as in Distribution, so that a client learns of
/// its mistake.
pub fn requested(header: Option<&str>, size: u64) -> Requested {
    let Some(header) = header else {
        return Requested::Whole;
    };
    if size == 0 {
        return Requested::Whole;
    }
    let Some(ranges) = header.trim().strip_prefix("bytes=") else {
        return Requested::Unsatisfiable;
    };
    if ranges.contains(',') {
        return Requested::Whole;
    }
    let Some((first, last)) = ranges.trim().split_once('-') else {
        return Requested::Unsatisfiable;
    };
    let range = match (first.trim(), last.trim()) {
        ("", suffix) => number(suffix)
            .filter(|length| *length > 0)
            .map(|length| ByteRange {
                start: size.saturating_sub(length),
                end: size - 1,
            }),
        (start, "") => number(start).map(|start| ByteRange {
            start,
            end: size - 1,
        }),
        (start, end) => number(start)
            .zip(number(end))
            .map(|(start, end)| ByteRange {
                start,
                end: end.min(size - 1),
            }),
    };
    match range {
        Some(range) if range.start <= range.end && range.start < size => Requested::Part(range),
        _ => Requested::Unsatisfiable,
    }
}

/// Reads the `Content-Range` of an upload chunk: `0-1023`, and also `bytes 0-1023/*`.
///
/// OCI distribution specification, "Pushing a blob in chunks": no unit, no total. Clients that
/// follow RFC 9110 instead are understood as well.
pub fn upload_chunk(header: &str) -> Option<ByteRange> {
    let text = header.trim();
    let text = text.strip_prefix("bytes ").unwrap_or(text);
    let text = text.split('/').next().unwrap_or_default();
    let (start, end) = text.split_once('-')?;
    let (start, end) = (number(start.trim())?, number(end.trim())?);
    (start <= end).then_some(ByteRange { start, end })
}

/// Reads the `Content-Range` of an upstream's 206: the part, and the total where it is told.
pub fn content_range(header: &str) -> Option<(ByteRange, Option<u64>)> {
    let text = header.trim().strip_prefix("bytes ")?;
    let (part, total) = text.split_once('/')?;
    let (start, end) = part.split_once('-')?;
    let (start, end) = (number(start.trim())?, number(end.trim())?);
    let total = match total.trim() {
        "*" => None,
        digits => Some(number(digits)?),
    };
    let sound = start <= end && total.is_none_or(|total| end < total);
    sound.then_some((ByteRange { start, end }, total))
}

/// Digits only: `parse` alone would take a plus sign.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_range_header_means_what_the_standard_says() {
        let part = |start, end| Requested::Part(ByteRange { start, end });
        for (header, size, expected) in [
            ("bytes=0-0", 10, part(0, 0)),
            ("bytes=2-", 10, part(2, 9)),
            ("bytes=-3", 10, part(7, 9)),
            ("bytes=-30", 10, part(0, 9)),
            ("bytes=5-500", 10, part(5, 9)),
            ("bytes=0-1,4-5", 10, Requested::Whole),
            ("bytes=5-4", 10, Requested::Unsatisfiable),
            ("bytes=10-", 10, Requested::Unsatisfiable),
            ("bytes=-0", 10, Requested::Unsatisfiable),
            ("bytes=-", 10, Requested::Unsatisfiable),
            ("bytes=+1-2", 10, Requested::Unsatisfiable),
            (
                "bytes=0-99999999999999999999999",
                10,
                Requested::Unsatisfiable,
            ),
            ("items=0-1", 10, Requested::Unsatisfiable),
            ("bytes=0-", 0, Requested::Whole),
        ] {
            assert_eq!(
                requested(Some(header), size),
                expected,
                "{header} of {size}"
            );
        }
        assert_eq!(requested(None, 10), Requested::Whole);
    }

    #[test]
    fn an_upload_chunk_is_read_in_both_spellings() {
        let range = ByteRange { start: 5, end: 9 };
        assert_eq!(upload_chunk("5-9"), Some(range));
        assert_eq!(upload_chunk("bytes 5-9/*"), Some(range));
        for wrong in ["", "5", "-9", "9-5", "a-b", "5-9-10", "0x5-9"] {
            assert_eq!(upload_chunk(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn an_upstreams_part_must_add_up() {
        let range = ByteRange { start: 5, end: 9 };
        assert_eq!(content_range("bytes 5-9/10"), Some((range, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((range, None)));
        for wrong in [
            "bytes */10",
            "5-9/10",
            "bytes 5-9/9",
            "bytes 9-5/10",
            "bytes 5-9",
        ] {
            assert_eq!(content_range(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn a_part_always_lies_within_the_content(header in "bytes=[0-9,-]{0,12}", size in 0u64..5000) {
            if let Requested::Part(range) = requested(Some(&header), size) {
                prop_assert!(range.start <= range.end && range.end < size);
            }
        }

        #[test]
        fn no_text_makes_a_reader_panic(text in ".*") {
            let _ = (requested(Some(&text), 7), upload_chunk(&text), content_range(&text));
        }
    }
}
