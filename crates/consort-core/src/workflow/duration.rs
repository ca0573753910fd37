//! Durations as people write them.

use std::time::Duration;

/// The longest duration, in days: ten years.
const LIMIT_DAYS: u64 = 3_650;

/// Milliseconds of each unit, from the longest to the shortest.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads `500ms`, `90s`, `2m`, `1h30m`, `24h` or `7d`: whole numbers, each followed by its unit, the longer unit first, each unit
/// at most once, ten years at most. Zero is a duration (`0s`). The error says what was found and what can be written instead.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = |why: &str| Err(format!("`{}` is not a duration: {why}", brief(text)));
    if text.is_empty() {
        return bad("it is empty; write for example `90s`, `2m` or `1h30m`");
    }
    if text.starts_with('-') {
        return bad("it is negative");
    }
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total = 0u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        if number.is_empty() || unit.is_empty() {
            return bad("write a whole number and a unit, for example `90s`, `2m` or `1h30m`");
        }
        if !UNITS.iter().any(|(name, _)| *name == unit) {
            return bad(&format!("there is no unit `{}`; the units are d, h, m, s and ms", brief(unit)));
        }
        let Some((_, factor)) = units.find(|(name, _)| *name == unit) else {
            return bad("write the longer unit first and each unit once, for example `1h30m`");
        };
        let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(*factor));
        match part.and_then(|part| total.checked_add(part)) {
            Some(sum) if sum <= LIMIT_DAYS * 86_400_000 => total = sum,
            _ => return bad("it is longer than ten years (3650d)"),
        }
        rest = tail;
    }
    Ok(Duration::from_millis(total))
}

fn brief(text: &str) -> String {
    super::suggest::brief(text, 40)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, millis) in [
            ("90s", 90_000),
            ("2m", 120_000),
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("24h", 86_400_000),
            ("7d", 604_800_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("0s", 0),
            ("3650d", 315_360_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_reason() {
        for (text, reason) in [
            ("", "it is empty"),
            ("-5s", "negative"),
            ("90", "a whole number and a unit"),
            ("s", "a whole number and a unit"),
            ("1.5h", "a whole number and a unit"),
            ("1 h", "a whole number and a unit"),
            ("5min", "no unit `min`"),
            ("5µs", "a whole number and a unit"),
            ("30m1h", "the longer unit first"),
            ("1h1h", "each unit once"),
            ("3651d", "ten years"),
            ("99999999999999999999d", "ten years"),
            ("9999999999999999999d", "ten years"),
        ] {
            let error = parse_duration(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
