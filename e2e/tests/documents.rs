//! The documents point at files and headings that exist, and every sentence begins with its subject.
//!
//! Only links inside the repository: a link to elsewhere cannot be followed on a machine without the internet. Sentences
//! are those of pages and of comments; `docs/glossary.md` has the words to begin with.

#[path = "documents/prose.rs"]
mod prose;

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

/// The pages that are read in an editor as often as in a browser.
const WRAPPED: [&str; 5] = [
    "README.md",
    "docs/architecture.md",
    "docs/compatibility-contract.md",
    "docs/formats.md",
    "docs/operator.md",
];
/// Characters of a line.
const WIDTH: usize = 120;

#[test]
fn no_page_has_the_marks_of_a_merge() {
    let marks = ["<".repeat(7), ">".repeat(7), "=".repeat(7)];
    for path in documents() {
        let text = fs::read_to_string(&path).expect("a readable document");
        for mark in &marks {
            assert!(!text.contains(mark), "{mark} in {}", path.display());
        }
    }
}

#[test]
fn the_pages_that_are_read_first_are_wrapped() {
    let mut long = Vec::new();
    for page in WRAPPED {
        let text = fs::read_to_string(root().join(page)).expect("a text file");
        let mut is_code = false;
        for (number, line) in (1..).zip(text.lines()) {
            is_code ^= line.trim_start().starts_with("```");
            if !is_code && !line.starts_with('|') && line.chars().count() > WIDTH {
                long.push(format!("{page}:{number}"));
            }
        }
    }
    assert!(long.is_empty(), "longer than {WIDTH}: {}", long.join(" "));
}

#[test]
fn a_link_is_found_in_text_and_not_in_code() {
    let text = "see [a](b.md) and [`c`](d.md#e)\n```\n[x](nowhere)\n```\n`[y](nowhere)`";
    assert_eq!(links(text), ["b.md", "d.md#e"]);
    assert!(anchors("## Find your way: `x`, a-b").contains("find-your-way-x-a-b"));
}

/// Every file of the project with the sentences in its text or comments. Folders of built or fetched files are left out.
fn prose() -> Vec<(PathBuf, Vec<prose::Sentence>)> {
    const NOT_OURS: [&str; 2] = ["target", "node_modules"];
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            let name = path.file_name().expect("a name").to_string_lossy();
            if path.is_symlink() || NOT_OURS.contains(&&*name) || name.starts_with(".git") {
                continue;
            }
            if path.is_dir() {
                if !name.starts_with('.') {
                    folders.push(path);
                }
                continue;
            }
            let extension = path.extension().unwrap_or(path.as_os_str());
            let read = || fs::read_to_string(&path).expect("a text file");
            let sentences = match (&*extension.to_string_lossy(), &*name) {
                ("md", _) => prose::of_page(&read()),
                ("rs" | "proto" | "go" | "java" | "js", _) => prose::of_comments(&read(), "//"),
                ("toml" | "yaml" | "tpl" | "py", _) | (_, "Makefile" | "Containerfile") => {
                    prose::of_comments(&read(), "#")
                }
                (_, _) => continue,
            };
            found.push((path, sentences));
        }
    }
    found
}

#[test]
fn no_sentence_of_a_comment_or_a_page_is_headed_by_who_what_or_so_many() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for (path, sentences) in prose() {
        let shown = path.strip_prefix(root()).unwrap_or(&path).display();
        seen += sentences.len();
        for sentence in sentences {
            if let Some(head) = sentence.poor_head() {
                let start: String = sentence.text.chars().take(70).collect();
                wrong.push(format!("{shown}:{}: {head:?}: {start}", sentence.line));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} sentences hide their subject. Begin each with its noun, as \"Records queued for the log\" and not \"What is \
         queued for the log\":\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(
        seen > 10_000,
        "only {seen} sentences were found: is the folder right?"
    );
}

#[test]
fn poor_heads_are_found_in_comments_and_pages_and_not_in_code_quotes_or_questions() {
    let heads = |sentences: Vec<prose::Sentence>| -> Vec<(usize, &str)> {
        let head = |it: &prose::Sentence| it.poor_head().map(|head| (it.line, head));
        sentences.iter().filter_map(head).collect()
    };
    let source = "//! The log. Whoever\n//! reads it.\n\n/// Which.\nlet a = 1; // So many.\nlet b = \" // Who\";\n// Of \
                  whom?\n// Who?\n// ```\n// What\n// ```\n// \"What is\" etcd's.\n/// - Whose.\n// Whole. Somebody.";
    let found = heads(prose::of_comments(source, "//"));
    assert_eq!(
        found,
        [(1, "Whoever"), (4, "Which"), (5, "So many"), (13, "Whose")]
    );
    let page = "## What it is\n\nA log: What it holds. `x` is *y*. **Who\nreads**.\n\n> What\n\n| Who? | a |\n| b | What |\n\
                ```\nWhat\n```\n1. Whatever";
    let found = heads(prose::of_page(page));
    assert_eq!(
        found,
        [
            (1, "What"),
            (3, "What"),
            (3, "Who"),
            (9, "What"),
            (13, "Whatever")
        ]
    );
}
