//! Go's way to write a duration: `1h30m`, `500ms`, `1.5s`.

use std::time::Duration;

/// The duration that `text` is; `None` if it is none, negative, or longer than a [`Duration`].
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    let mut all = Duration::ZERO;
    while !rest.is_empty() {
        let is_number = |letter: char| letter.is_ascii_digit() || letter == '.';
        let unit_at = rest.find(|letter| !is_number(letter))?;
        let (number, more) = rest.split_at(unit_at);
        let end = more.find(is_number).unwrap_or(more.len());
        let (unit, next) = more.split_at(end);
        let unit = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        let part = Duration::try_from_secs_f64(number * unit).ok()?;
        all = all.checked_add(part)?;
        rest = next;
    }
    Some(all)
}

/// A duration as Go prints it.
pub fn text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        return format!("{duration:?}");
    }
    let part = Duration::new(seconds % 60, duration.subsec_nanos());
    let part = format!("{}", part.as_secs_f64());
    match (seconds / 3600, seconds / 60 % 60) {
        (0, minutes) => format!("{minutes}m{part}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{part}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_printed_as_go_does() {
        for (millis, text) in [
            (0, "0ns"),
            (1, "1ms"),
            (1_500, "1.5s"),
            (90_000, "1m30s"),
            (3_660_500, "1h1m0.5s"),
        ] {
            assert_eq!(super::text(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, millis) in [
            ("0", 0),
            ("10m0s", 600_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1500),
            ("500ms", 500),
            ("5000000000ns", 5000),
            ("+3s", 3000),
            (".5s", 500),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "5",
            "-5s",
            "5 s",
            "s",
            "5x",
            "1.2.3s",
            "h",
            "9e9h",
            "99999999999999999999h",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
