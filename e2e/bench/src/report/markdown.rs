//! `benchmarks.md` and its pictures.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::format::{figure, found, ratio, spread, wanted};
use super::svg::{Bars, draw};
use super::text::notes;
use super::{Measured, Report};
use crate::cluster::Side;
use crate::reading::Metric;
use crate::rows::Group;

/// Writes `benchmarks.md` and `benchmarks/*.svg` into `dir`.
pub fn write_pages(report: &Report, dir: &Path) -> Result<()> {
    let pictures = dir.join("benchmarks");
    fs::create_dir_all(&pictures).with_context(|| format!("create {}", pictures.display()))?;
    let mut page = head(report);
    targets(&mut page, report);
    for group in report.groups() {
        let _ = writeln!(page, "\n## {}\n", group.title());
        let bars = bars(report, group);
        if !bars.is_empty() {
            let name = file_name(group);
            let unit = match group.pictured() {
                [metric] => metric.title(),
                _ => "each on its own scale",
            };
            fs::write(pictures.join(name), draw(group.title(), unit, &bars))?;
            let _ = writeln!(page, "![{}](benchmarks/{name})\n", group.title());
        }
        table(&mut page, report, group);
        members(&mut page, report, group);
        remarks(&mut page, report, group);
    }
    let path = dir.join("benchmarks.md");
    fs::write(&path, page).with_context(|| format!("write {}", path.display()))
}

fn head(report: &Report) -> String {
    let facts = &report.facts;
    format!(
        "# Benchmarks: Coord beside etcd\n\n\
         Written by `make bench`; do not edit. {ours} and {theirs} ran side by side on one machine, members on loopback \
         with their defaults and fsync on, and were measured in turn (A B, then B A): medians of {rounds} rounds of \
         {seconds} s, with the smallest and the largest in parentheses. Keys of 32 bytes, values of 256 bytes that do \
         not compress, 10,000 keys, a closed loop over 8 connections (16 for 256 clients) spread over all members.\n\n\
         The generator shares the cores with the servers, so ops/s and latency depend on both. The figure to hold on to \
         is **server CPU**: user and system time of all server processes per operation. Compare the two sides, not two \
         machines.\n\n\
         | | |\n|---|---|\n\
         | date | {date} |\n| commit | {commit} |\n| processor | {processor} |\n| memory | {memory:.0} GB |\n\
         | kernel | {kernel} |\n| fdatasync of 4 KiB at the end of a file | {sync} ms |\n",
        ours = facts.ours,
        theirs = facts.theirs,
        rounds = report.rounds,
        seconds = report.seconds,
        date = facts.date,
        commit = facts.commit,
        processor = facts.processor,
        memory = facts.memory_gigabytes,
        kernel = facts.kernel,
        sync = figure(facts.sync_millis),
    )
}

fn targets(page: &mut String, report: &Report) {
    let verdicts: Vec<_> = report
        .rows
        .iter()
        .flat_map(|measured| {
            measured
                .verdicts
                .iter()
                .map(move |verdict| (measured, verdict))
        })
        .collect();
    let reached = verdicts
        .iter()
        .filter(|(_, verdict)| verdict.is_reached)
        .count();
    let _ = writeln!(
        page,
        "\n## Targets\n\n{reached} of {} are reached.\n\n| | work | target | measured: Coord against etcd |\n|---|---|---|---|",
        verdicts.len()
    );
    for (measured, verdict) in verdicts {
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} |",
            if verdict.is_reached {
                "reached"
            } else {
                "**missed**"
            },
            measured.row.full_title(),
            wanted(verdict),
            found(verdict),
        );
    }
}

fn file_name(group: Group) -> &'static str {
    match group {
        Group::Writes => "writes.svg",
        Group::Reads => "reads.svg",
        Group::Coordination => "coordination.svg",
        Group::Million => "million.svg",
        Group::Idle => "idle.svg",
        Group::Failover => "failover.svg",
        Group::Audit => "audit.svg",
    }
}

fn bars(report: &Report, group: Group) -> Vec<Bars> {
    let mut bars = Vec::new();
    for measured in report.group(group) {
        for metric in group.pictured() {
            let of = |side| measured.pairs.spread(side, *metric);
            let (Some(ours), Some(theirs)) = (of(Side::Ours), of(Side::Theirs)) else {
                continue;
            };
            let label = match group.pictured() {
                [_] => measured.row.full_title(),
                _ => metric.title().to_owned(),
            };
            bars.push(Bars {
                label,
                ours: ours.median,
                theirs: theirs.median,
            });
        }
    }
    bars
}

fn table(page: &mut String, report: &Report, group: Group) {
    page.push_str("| work | |");
    for metric in group.columns() {
        let _ = write!(page, " {} |", metric.title());
    }
    let _ = writeln!(page, "\n|---|---|{}", "--:|".repeat(group.columns().len()));
    for measured in report.group(group) {
        let lines = [
            (
                group.side(Side::Ours),
                cells(measured, group, Some(Side::Ours)),
            ),
            (
                group.side(Side::Theirs),
                cells(measured, group, Some(Side::Theirs)),
            ),
            ("ratio", cells(measured, group, None)),
        ];
        for (index, (label, cells)) in lines.iter().enumerate() {
            let title = if index == 0 {
                measured.row.full_title()
            } else {
                String::new()
            };
            let _ = writeln!(page, "| {title} | {label} | {} |", cells.join(" | "));
        }
    }
}

/// One side's figures, or the ratios.
fn cells(measured: &Measured, group: Group, side: Option<Side>) -> Vec<String> {
    let cell = |metric: &Metric| match side {
        Some(side) => measured
            .pairs
            .spread(side, *metric)
            .map(|figures| spread(&figures)),
        None => measured
            .pairs
            .ratio(*metric)
            .map(|ratios| format!("**{}**", ratio(&ratios))),
    };
    let dash = || "-".to_owned();
    group
        .columns()
        .iter()
        .map(|metric| cell(metric).unwrap_or_else(dash))
        .collect()
}

fn members(page: &mut String, report: &Report, group: Group) {
    let shared: Vec<_> = report
        .group(group)
        .filter(|measured| {
            let last = measured.pairs.ours.last();
            last.is_some_and(|reading| reading.members.len() > 1)
        })
        .collect();
    if shared.is_empty() {
        return;
    }
    page.push_str(
        "\nEach member's part in the last round. A follower that quietly stopped taking part would make the sums look \
         better than they are.\n\n\
         | work | member | CPU us/op | log syncs/s | disk B/op | RSS MB | most revisions behind | caught up after, ms |\n\
         |---|---|--:|--:|--:|--:|--:|--:|\n",
    );
    for measured in shared {
        for side in Side::BOTH {
            let Some(reading) = measured.pairs.of(side).last() else {
                continue;
            };
            for member in &reading.members {
                let _ = writeln!(
                    page,
                    "| {} | {side} {}{} | {} | {} | {} | {} | {} | {} |",
                    measured.row.title,
                    member.name,
                    if member.is_leader { ", leader" } else { "" },
                    figure(member.cpu_us_per_op),
                    figure(member.syncs_per_second),
                    figure(member.disk_bytes_per_op),
                    figure(member.resident_megabytes),
                    member.revisions_behind,
                    figure(reading.catch_up_millis),
                );
            }
        }
    }
}

fn remarks(page: &mut String, report: &Report, group: Group) {
    for measured in report.group(group) {
        for note in notes(measured) {
            let _ = writeln!(page, "\n{}: {note}.", measured.row.full_title());
        }
    }
}
