//! Tables for a terminal; colour only there.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};

use super::format::{figure, found, is_better, ratio, wanted};
use super::{Measured, Report};
use crate::cluster::Side;
use crate::reading::{Metric, Reading};
use crate::rows::{Group, Row};

/// Wide enough for a ratio with its ends.
const COLUMN: usize = 20;
/// Of the first column; a row's title has a line of its own.
const SIDE: usize = 24;

#[derive(Clone, Copy)]
enum Ink {
    Good,
    Bad,
    Dim,
    Bold,
}

/// Paints, or leaves as it is.
struct Paint(bool);

impl Paint {
    fn ink(&self, ink: Ink, text: &str) -> String {
        if !self.0 {
            return text.to_owned();
        }
        let code = match ink {
            Ink::Good => 32,
            Ink::Bad => 31,
            Ink::Dim => 2,
            Ink::Bold => 1,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// One reading as a line of progress.
pub fn line(row: &Row, round: u32, side: Side, reading: &Reading) -> String {
    let mut out = format!(
        "{:<14} round {:<2} {:<6}",
        row.id(),
        round + 1,
        row.group.side(side)
    );
    for metric in row.group.columns() {
        if let Some(value) = reading.figures.get(metric) {
            let _ = write!(out, " {} {}", metric.title(), figure(*value));
        }
    }
    if reading.noise.is_high() {
        let noise = reading.noise;
        let _ = write!(
            out,
            "  noisy: {:.0} % stolen, {:.0} % others",
            noise.stolen * 100.0,
            noise.others * 100.0
        );
    }
    if reading.errors > 0 {
        let first = reading.first_error.as_deref().unwrap_or_default();
        let _ = write!(out, "  {} errors, first: {first}", reading.errors);
    }
    out
}

/// Prints all tables to standard output.
pub fn print(report: &Report) -> std::io::Result<()> {
    let stdout = std::io::stdout();
    let paint = Paint(stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none());
    stdout.lock().write_all(render(report, &paint).as_bytes())
}

fn render(report: &Report, paint: &Paint) -> String {
    let facts = &report.facts;
    let mut out = format!(
        "\n{} beside {}, medians of {} rounds of {} s\n{}; {}; fdatasync {} ms; {}\n",
        facts.ours,
        facts.theirs,
        report.rounds,
        report.seconds,
        facts.processor,
        facts.kernel,
        figure(facts.sync_millis),
        facts.commit,
    );
    for group in report.groups() {
        table(&mut out, report, group, paint);
    }
    targets(&mut out, report, paint);
    out
}

fn table(out: &mut String, report: &Report, group: Group, paint: &Paint) {
    let _ = write!(
        out,
        "\n{}",
        paint.ink(Ink::Bold, &format!("{:<SIDE$}", group.title()))
    );
    for metric in group.columns() {
        let _ = write!(out, "{:>COLUMN$}", metric.title());
    }
    out.push('\n');
    for measured in report.group(group) {
        row(out, measured, paint);
    }
}

fn row(out: &mut String, measured: &Measured, paint: &Paint) {
    let pairs = &measured.pairs;
    let _ = writeln!(out, "{}", measured.row.full_title());
    for side in Side::BOTH {
        if pairs.of(side).is_empty() {
            continue;
        }
        let side_name = format!("  {}", measured.row.group.side(side));
        let _ = write!(out, "{side_name:<SIDE$}");
        for metric in measured.group.columns() {
            let text = pairs.spread(side, *metric);
            let text = text.map_or_else(|| "-".to_owned(), |spread| figure(spread.median));
            let _ = write!(out, "{text:>COLUMN$}");
        }
        out.push('\n');
    }
    let _ = write!(
        out,
        "{}",
        paint.ink(Ink::Dim, &format!("{:<SIDE$}", "  ratio"))
    );
    for metric in measured.group.columns() {
        out.push_str(&ratio_cell(pairs.ratio(*metric), *metric, paint));
    }
    out.push('\n');
    if measured.row.nodes > 1 {
        members(out, measured, paint);
    }
    for note in notes(measured) {
        let _ = writeln!(out, "  {}", paint.ink(Ink::Bad, &note));
    }
}

fn ratio_cell(spread: Option<crate::reading::Spread>, metric: Metric, paint: &Paint) -> String {
    let Some(spread) = spread else {
        return format!("{:>COLUMN$}", "-");
    };
    let ink = if is_better(metric, spread.median) {
        Ink::Good
    } else {
        Ink::Bad
    };
    paint.ink(ink, &format!("{:>COLUMN$}", ratio(&spread)))
}

/// Each member's part in the last round: one that stopped taking part makes the sums look better than they are.
fn members(out: &mut String, measured: &Measured, paint: &Paint) {
    for side in Side::BOTH {
        let Some(reading) = measured.pairs.of(side).last() else {
            continue;
        };
        for member in &reading.members {
            let text = format!(
                "    {:<6}{:<3}{:<8} CPU {:>7} us/op  syncs {:>8}/s  disk {:>8} B/op  behind at most {:>6} \
                 revisions  applied {:>7} indexes",
                side.to_string(),
                member.name,
                if member.is_leader { " leader" } else { "" },
                figure(member.cpu_us_per_op),
                figure(member.syncs_per_second),
                figure(member.disk_bytes_per_op),
                figure(member.revisions_behind as f64),
                figure(member.indexes_applied as f64),
            );
            let _ = writeln!(out, "{}", paint.ink(Ink::Dim, &text));
        }
    }
}

/// Cautions to read before believing the row.
pub(super) fn notes(measured: &Measured) -> Vec<String> {
    let pairs = &measured.pairs;
    let mut notes = Vec::new();
    if let Some(failure) = &pairs.failure {
        notes.push(format!("failed: {failure}"));
    }
    let rounds = pairs.ours.len().min(pairs.theirs.len());
    if pairs.noisy_rounds() > 0 {
        notes.push(format!(
            "{} of {rounds} rounds were noisy: above 8 % stolen by the host or above 25 % used by others",
            pairs.noisy_rounds()
        ));
    }
    for side in Side::BOTH {
        let remarks = pairs.of(side).iter().filter_map(|one| one.remark.as_ref());
        notes.extend(remarks.take(1).map(|remark| format!("{side}: {remark}")));
        let errors = pairs.errors(side);
        if errors > 0 {
            let first = pairs
                .of(side)
                .iter()
                .find_map(|reading| reading.first_error.as_deref());
            notes.push(format!(
                "{side}: {errors} operations failed, first: {}",
                first.unwrap_or_default()
            ));
        }
    }
    notes
}

fn targets(out: &mut String, report: &Report, paint: &Paint) {
    let _ = writeln!(out, "\n{}", paint.ink(Ink::Bold, "Targets"));
    for measured in &report.rows {
        for verdict in &measured.verdicts {
            let mark = if verdict.is_reached {
                paint.ink(Ink::Good, "reached")
            } else {
                paint.ink(Ink::Bad, "MISSED ")
            };
            let _ = writeln!(
                out,
                "  {mark} {:<14} {:<38} {}",
                measured.id,
                wanted(verdict),
                found(verdict)
            );
        }
    }
}
