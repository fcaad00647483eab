//! The documents point at files and headings that exist.
//!
//! Only links inside the repository: a link to elsewhere cannot be followed on a machine without the internet.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Markdown file of the repository that people read.
fn documents() -> Vec<PathBuf> {
    let mut found = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// The targets of `[text](target)` outside of code.
fn links(text: &str) -> Vec<String> {
    let mut targets = Vec::new();
    let mut is_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        if is_code {
            continue;
        }
        for (start, _) in line.match_indices("](") {
            // An odd number of backticks before it: inside of code.
            if line[..start].matches('`').count() % 2 == 1 {
                continue;
            }
            if let Some(length) = line[start..].find(')') {
                targets.push(line[start + 2..start + length].to_owned());
            }
        }
    }
    targets
}

/// The anchors of headings, as the common renderers make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn every_link_inside_the_repository_leads_somewhere() {
    let mut seen = 0;
    let mut broken = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).expect("a text file");
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => document.clone(),
                path => document.parent().expect("a folder").join(path),
            };
            if !target.exists() {
                broken.push(format!("{}: {link}", document.display()));
                continue;
            }
            if !anchor.is_empty() {
                let text = fs::read_to_string(&target).expect("a text file");
                if !anchors(&text).contains(anchor) {
                    broken.push(format!("{}: no heading for {link}", document.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(
        seen > 20,
        "only {seen} links were found: is the folder right?"
    );
}

#[test]
fn a_link_is_found_in_text_and_not_in_code() {
    let text = "see [a](b.md) and [`c`](d.md#e)\n```\n[x](nowhere)\n```\n`[y](nowhere)`";
    assert_eq!(links(text), ["b.md", "d.md#e"]);
    assert!(anchors("## Find your way: `x`, a-b").contains("find-your-way-x-a-b"));
}
