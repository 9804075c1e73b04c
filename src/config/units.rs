//! Quantities as people write them: durations, sizes, percentages. Pure functions, both ways.

use std::time::Duration;

use super::MinFree;

/// No setting needs more, and adding it to a clock must not overflow.
const LONGEST: Duration = Duration::from_hours(100 * 365 * 24);

/// Reads `5m`, `1h30m`, `1.5h`, `30days`, `0`; a bare integer is nanoseconds, as in Distribution (Go).
pub(super) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let parsed = if let Ok(nanoseconds) = text.parse::<u64>() {
        Duration::from_nanos(nanoseconds)
    } else {
        // Go writes the micro sign or the Greek letter; humantime knows the former.
        humantime::parse_duration(&text.replace('μ', "µ")).ok()?
    };
    (parsed <= LONGEST).then_some(parsed)
}

/// Writes a duration in Go's syntax, so that the file stays readable for Distribution.
pub(super) fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(duration.subsec_nanos()), "ns"),
    ];
    let mut text = String::new();
    for (count, unit) in parts.iter().filter(|(count, _)| *count > 0) {
        text.extend([&count.to_string(), *unit]);
    }
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

/// Powers of 1000 for `kB`, `MB`, … as disks are sold, of 1024 for `KiB`, `MiB`, …
const SIZE_UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("k", 1_000),
    ("m", 1_000_000),
    ("g", 1_000_000_000),
    ("t", 1_000_000_000_000),
    ("p", 1_000_000_000_000_000),
    ("ki", 1 << 10),
    ("mi", 1 << 20),
    ("gi", 1 << 30),
    ("ti", 1 << 40),
];

/// Reads `100GB`, `10GiB`, `1.5 TB`, `500m` or a bare number of bytes. Case does not matter.
pub(super) fn size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.trim_start();
    let unit = unit.strip_suffix('b').unwrap_or(unit);
    let (_, factor) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    // Exact arithmetic: 15 digits of fraction are more than any size has.
    let fraction_digits = u32::try_from(fraction.len()).ok().filter(|n| *n <= 15)?;
    let whole: u128 = whole.parse().ok()?;
    let fraction: u128 = fraction.parse().ok()?;
    let factor = u128::from(*factor);
    let bytes = whole.checked_mul(factor)? + fraction * factor / 10_u128.pow(fraction_digits);
    u64::try_from(bytes).ok()
}

/// Writes a size with the largest unit that divides it.
pub(super) fn format_size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 6] = [
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("kB", 1_000),
    ];
    let fits = |(_, factor): &&(&str, u64)| bytes > 0 && bytes.is_multiple_of(*factor);
    UNITS.iter().find(fits).map_or_else(
        || bytes.to_string(),
        |(name, factor)| format!("{}{name}", bytes / factor),
    )
}

/// Reads `10%`, or a size.
pub(super) fn min_free(text: &str) -> Option<MinFree> {
    match text.trim().strip_suffix('%') {
        Some(number) => {
            let percent = number.trim().parse().ok().filter(|n| *n <= 100)?;
            Some(MinFree::Percent(percent))
        }
        None => size(text).map(MinFree::Bytes),
    }
}

/// Writes what [`min_free`] reads.
pub(super) fn format_min_free(min_free: MinFree) -> String {
    match min_free {
        MinFree::Percent(percent) => format!("{percent}%"),
        MinFree::Bytes(bytes) => format_size(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let table = [
            ("5m", Some(300_000)),
            ("1h30m", Some(5_400_000)),
            ("1.5h", Some(5_400_000)),
            ("720h", Some(2_592_000_000)),
            ("30days", Some(2_592_000_000)),
            ("100ms", Some(100)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("5000000", Some(5)),
            ("5 apples", None),
            ("-5m", None),
            ("", None),
            ("200years", None),
            ("99999999999999999999h", None),
        ];
        for (text, milliseconds) in table {
            assert_eq!(
                duration(text),
                milliseconds.map(Duration::from_millis),
                "{text}"
            );
        }
        assert_eq!(duration("3μs"), Some(Duration::from_micros(3)));
        for text in ["168h", "1h30m", "1m30s", "5ns", "0s"] {
            assert_eq!(duration(text).map(format_duration).as_deref(), Some(text));
        }
    }

    #[test]
    fn sizes() {
        let table = [
            ("100GB", Some(100_000_000_000)),
            ("10GiB", Some(10 << 30)),
            ("10 gib", Some(10 << 30)),
            ("1.5TB", Some(1_500_000_000_000)),
            ("500m", Some(500_000_000)),
            ("4096", Some(4096)),
            ("7B", Some(7)),
            ("", None),
            ("GB", None),
            ("1.2.3GB", None),
            ("5 apples", None),
            ("99999999999PB", None),
        ];
        for (text, bytes) in table {
            assert_eq!(size(text), bytes, "{text}");
        }
        for text in ["100GB", "10GiB", "7", "0", "3MiB", "20kB"] {
            assert_eq!(size(text).map(format_size).as_deref(), Some(text));
        }
    }

    #[test]
    fn free_space() {
        assert_eq!(min_free("10%"), Some(MinFree::Percent(10)));
        assert_eq!(min_free("5GB"), Some(MinFree::Bytes(5_000_000_000)));
        assert_eq!(min_free("101%"), None);
        assert_eq!(min_free("-1%"), None);
    }
}
