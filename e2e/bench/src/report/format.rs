//! Figures as people read them.

use crate::reading::{Metric, Spread};
use crate::targets::{Bound, Verdict};

/// Three significant places, thousands grouped.
pub(super) fn figure(value: f64) -> String {
    let places = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 0.095 => 2,
        _ => 3,
    };
    group_thousands(&format!("{value:.places$}"))
}

fn group_thousands(text: &str) -> String {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text),
    };
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) => (whole, format!(".{fraction}")),
        None => (digits, String::new()),
    };
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{fraction}")
}

/// A ratio, with its ends where there are several rounds.
pub(super) fn ratio(spread: &Spread) -> String {
    if spread.min == spread.max {
        return format!("{:.2}x", spread.median);
    }
    format!(
        "{:.2}x ({:.2}..{:.2})",
        spread.median, spread.min, spread.max
    )
}

/// A figure, with its ends where there are several rounds.
pub(super) fn spread(spread: &Spread) -> String {
    if spread.min == spread.max {
        return figure(spread.median);
    }
    format!(
        "{} ({}..{})",
        figure(spread.median),
        figure(spread.min),
        figure(spread.max)
    )
}

/// The demand of a target.
pub(super) fn wanted(verdict: &Verdict) -> String {
    let metric = verdict.target.metric.title();
    match verdict.target.bound {
        Bound::Ratio { at_most, .. } => {
            let other = match verdict.target.row.starts_with("audit-") {
                true => "that without",
                false => "etcd's",
            };
            format!("{metric} at most {at_most:.2}x {other}")
        }
        Bound::Absolute { at_most, .. } => format!("{metric} at most {}", figure(at_most)),
    }
}

/// The figures measured against a target.
pub(super) fn found(verdict: &Verdict) -> String {
    let ours = figure(verdict.ours);
    let theirs = verdict.theirs.map(figure);
    let theirs = theirs.map_or_else(String::new, |theirs| format!(" against {theirs}"));
    match (verdict.target.bound, verdict.ratio) {
        (Bound::Ratio { guard, .. }, Some(ratio)) => {
            let over = match guard {
                Some(guard) if verdict.ours > guard => {
                    format!("; over the guard of {}", figure(guard))
                }
                _ => String::new(),
            };
            format!("{ratio:.2}x, {ours}{theirs}{over}")
        }
        (Bound::Absolute { etcd_then, .. }, _) => {
            let then = etcd_then.map_or_else(String::new, |then| {
                format!("; etcd took {} where this was set", figure(then))
            });
            format!("{ours}{theirs}{then}")
        }
        (Bound::Ratio { .. }, None) => format!("{ours}{theirs}"),
    }
}

/// Whether ours is on the good side of theirs.
pub(super) fn is_better(metric: Metric, ratio: f64) -> bool {
    (ratio < 1.0) == metric.less_is_better()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_three_places() {
        for (value, text) in [
            (0.0123, "0.012"),
            (0.5, "0.50"),
            (14.25, "14.2"),
            (432.6, "433"),
            (57_917.4, "57,917"),
            (1_234_567.0, "1,234,567"),
            (-1234.0, "-1,234"),
        ] {
            assert_eq!(figure(value), text);
        }
    }
}
