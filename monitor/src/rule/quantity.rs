//! Amounts with a unit: `64.mib` and `10.minutes` in conditions, `10m` and `24h` in YAML.

use std::fmt::Write as _;

/// A number as it was written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Int(i64),
    Float(f64),
}

/// Units of bytes.
const BYTES: &[(&str, i64)] =
    &[("kib", 1 << 10), ("mib", 1 << 20), ("gib", 1 << 30), ("tib", 1 << 40)];
/// Units of time, in seconds.
const TIMES: &[(&str, f64)] = &[
    ("milliseconds", 0.001),
    ("second", 1.0),
    ("seconds", 1.0),
    ("minute", 60.0),
    ("minutes", 60.0),
    ("hour", 3_600.0),
    ("hours", 3_600.0),
    ("day", 86_400.0),
    ("days", 86_400.0),
];
/// Units of time in YAML, in nanoseconds.
const SPANS: &[(&str, u64)] = &[
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Units as they are written elsewhere. Here bytes go by 1024, and the name says so.
const MEANT: [(&str, &str); 16] = [
    ("k", "kib"),
    ("kb", "kib"),
    ("m", "mib"),
    ("mb", "mib"),
    ("g", "gib"),
    ("gb", "gib"),
    ("tb", "tib"),
    ("ms", "milliseconds"),
    ("s", "seconds"),
    ("sec", "seconds"),
    ("second", "seconds"),
    ("min", "minutes"),
    ("minute", "minutes"),
    ("h", "hours"),
    ("hour", "hours"),
    ("day", "days"),
];

/// `number.unit`: bytes as an int, a time as a float of seconds. The error is a message.
pub(crate) fn scale(number: Number, unit: &str) -> Result<Number, String> {
    if let Some((_, factor)) = BYTES.iter().find(|(name, _)| *name == unit) {
        return bytes(number, *factor).map(Number::Int).ok_or_else(|| {
            format!("the amount is not a whole number of bytes below 2^63 ({unit})")
        });
    }
    if let Some((_, factor)) = TIMES.iter().find(|(name, _)| *name == unit) {
        return Ok(Number::Float(match number {
            Number::Int(int) => super::cel::widen(int) * factor,
            Number::Float(float) => float * factor,
        }));
    }
    if let Some((_, meant)) = MEANT.iter().find(|(wrong, _)| *wrong == unit.to_ascii_lowercase()) {
        return Err(format!("unknown unit `{unit}`; did you mean `{meant}`?"));
    }
    Err(format!(
        "unknown unit `{unit}`; expected kib, mib, gib, tib, milliseconds, seconds, minutes, \
         hours or days"
    ))
}

fn bytes(number: Number, factor: i64) -> Option<i64> {
    match number {
        Number::Int(int) => int.checked_mul(factor),
        Number::Float(float) => {
            let amount = float * super::cel::widen(factor);
            let fits = amount.fract() == 0.0 && amount.abs() < 9.0e18;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "just found to be whole and to fit"
            )]
            fits.then_some(amount as i64)
        }
    }
}

/// A span of time as YAML writes it, `90s`, `10m`, `24h`, `1h30m`: nanoseconds.
pub fn parse_span(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let amount: u64 = rest[..digits].parse().ok()?;
        let tail = &rest[digits..];
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (_, factor) = SPANS.iter().find(|(name, _)| *name == &tail[..letters])?;
        total = total.checked_add(amount.checked_mul(*factor)?)?;
        rest = &tail[letters..];
    }
    (!text.is_empty()).then_some(total)
}

/// A span of time as people read it: `10m`, `1h30m`, `250ms`.
pub fn format_span(mut span_ns: u64) -> String {
    if span_ns == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, factor) in SPANS.iter().rev() {
        let amount = span_ns / factor;
        if amount > 0 {
            write!(text, "{amount}{name}").expect("writing to a string cannot fail");
            span_ns %= factor;
        }
    }
    text
}

/// A number of bytes as YAML writes it: `1048576`, `500.gib`, `1.5.gib`.
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    if let Ok(plain) = text.parse::<u64>() {
        return Some(plain);
    }
    let (number, unit) = text.rsplit_once('.')?;
    let (_, factor) = BYTES.iter().find(|(name, _)| *name == unit)?;
    let number = match number.parse::<i64>() {
        Ok(int) => Number::Int(int),
        Err(_) => Number::Float(number.parse().ok()?),
    };
    bytes(number, *factor).and_then(|amount| u64::try_from(amount).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        assert_eq!(parse_span("10m"), Some(600_000_000_000));
        assert_eq!(parse_span("1h30m"), Some(5_400_000_000_000));
        assert_eq!(parse_span("250ms"), Some(250_000_000));
        for wrong in ["", "10", "m", "10 m", "10x", "-1s", "1.5h", "99999999999999d"] {
            assert_eq!(parse_span(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn bytes_are_read_with_and_without_a_unit() {
        assert_eq!(parse_bytes("500.gib"), Some(500 << 30));
        assert_eq!(parse_bytes("1.5.kib"), Some(1536));
        assert_eq!(parse_bytes("42"), Some(42));
        for wrong in ["", "-1.gib", "1.gb", "gib", "0.0001.kib", "99999999.tib"] {
            assert_eq!(parse_bytes(wrong), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_span_reads_back_as_it_was_printed(ms in 0u64..10_000_000_000) {
            let span_ns = ms * 1_000_000;
            assert_eq!(parse_span(&format_span(span_ns)), Some(span_ns));
        }
    }
}
