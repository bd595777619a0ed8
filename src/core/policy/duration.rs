//! Durations as people write them: `"300"`, `"5m"`, `"1h30m"`, `"250ms"`, `"2 days"`.

use crate::error::{Error, Result};
use std::time::Duration;

const CURE: &str = "give seconds, or a text such as '30s', '5m', '1h30m' or '7d'";

/// Parses a duration; `option` names it in the error.
///
/// A number alone means seconds. Units: ms, s, m, h, d, w, also spelled out (`sec`, `min`, `hours`).
pub fn parse_duration(text: &str, option: &str) -> Result<Duration> {
    let refuse = || Error::config(option, format!("{text:?}"), CURE);
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(refuse());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().map_err(|_| refuse())?;
        let after = rest[end..].trim_start();
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let unit = match &after[..end] {
            "" if after.is_empty() && seconds == 0.0 => 1.0,
            unit => unit_seconds(unit).ok_or_else(refuse)?,
        };
        seconds += number * unit;
        rest = after[end..].trim_start();
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| refuse())
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ms" | "millisecond" | "milliseconds" => 0.001,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hour" | "hours" => 3_600.0,
        "d" | "day" | "days" => 86_400.0,
        "w" | "week" | "weeks" => 604_800.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_durations_in_many_ways() {
        for (text, millis) in [
            ("300", 300_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("250ms", 250),
            ("1.5h", 5_400_000),
            (" 2 days ", 172_800_000),
            ("0", 0),
        ] {
            assert_eq!(parse_duration(text, "ttl"), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_option_the_value_and_the_cure() {
        for text in ["", "5 parsecs", "m5", "-3s", "nan", "inf", "1e9", "5m3", "5..1s", "1 000s"] {
            let error = parse_duration(text, "ttl").unwrap_err().to_string();
            assert!(error.contains("ttl") && error.contains(text) && error.contains("1h30m"), "{error}");
        }
    }
}
