//! Kubernetes quantities (`10Gi`) as bytes.

/// The whole units a Kubernetes quantity stands for, rounded up: `1Gi` is 1073741824, `1500m` is 2.
///
/// `None` for what is no quantity, is negative, or does not fit. Source: the quantity grammar of the Kubernetes API.
pub fn parse(text: &str) -> Option<u64> {
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '+'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let number = number.strip_prefix('+').unwrap_or(number);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 18 || number.contains('+') {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let (times, over) = multiplier(suffix)?;
    let value = digits
        .checked_mul(times)?
        .div_ceil(scale.checked_mul(over)?);
    u64::try_from(value).ok()
}

/// The shortest quantity of `bytes`: `1Gi` for 1073741824.
pub fn of_bytes(bytes: u64) -> String {
    let units = [
        ("Ei", 60),
        ("Pi", 50),
        ("Ti", 40),
        ("Gi", 30),
        ("Mi", 20),
        ("Ki", 10),
    ];
    let fits = |bits: &u32| bytes > 0 && bytes.is_multiple_of(1 << bits);
    match units.iter().find(|(_, bits)| fits(bits)) {
        Some((unit, bits)) => format!("{}{unit}", bytes >> bits),
        None => bytes.to_string(),
    }
}

fn multiplier(suffix: &str) -> Option<(u128, u128)> {
    let binary = |power: u32| Some((1024_u128.pow(power), 1));
    let decimal = |power: u32| Some((1000_u128.pow(power), 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1_000)),
        "k" => decimal(1),
        "M" => decimal(2),
        "G" => decimal(3),
        "T" => decimal(4),
        "P" => decimal(5),
        "E" => decimal(6),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let factor = 10_u128.checked_pow(power.unsigned_abs())?;
            Some(if power < 0 { (1, factor) } else { (factor, 1) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{of_bytes, parse};

    #[test]
    fn bytes_are_written_in_the_largest_unit_that_is_exact() {
        for (bytes, text) in [
            (0, "0"),
            (64 << 20, "64Mi"),
            (10 << 40, "10Ti"),
            (1500, "1500"),
            (3 << 29, "1536Mi"),
        ] {
            assert_eq!(of_bytes(bytes), text);
            assert_eq!(parse(text), Some(bytes));
        }
    }

    #[test]
    fn quantities_are_read_as_the_api_server_reads_them() {
        for (text, value) in [
            ("1Gi", 1 << 30),
            ("0.5Gi", 1 << 29),
            ("+8Mi", 8 << 20),
            ("10G", 10_000_000_000),
            ("1500m", 2),
            ("1e3", 1000),
            ("2E3", 2000),
            ("12E-1", 2),
            ("1E", 1_000_000_000_000_000_000),
            ("7", 7),
            (".5k", 500),
        ] {
            assert_eq!(parse(text), Some(value), "{text}");
        }
        for text in [
            "", "Gi", "1GiB", "-1Gi", "1 Gi", "one", "1.2.3", "9999999E", "1+1", "1e99",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
