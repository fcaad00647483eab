//! Reads the source of a program as rooms that name rooms: for the layering tests of the server and of the operator.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Room, path and code of every source file that ships.
pub(crate) fn of(root: &Path) -> Vec<(String, PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let room = |path: &Path| {
        let first = path
            .strip_prefix(root)
            .unwrap()
            .components()
            .next()
            .unwrap();
        first
            .as_os_str()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs")
            .to_owned()
    };
    // Tests may reach across.
    let is_test = |path: &Path| {
        path.components()
            .any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs")))
    };
    let mut all: Vec<_> = files
        .into_iter()
        .filter(|path| !is_test(path))
        .map(|path| {
            (
                room(&path),
                path.clone(),
                code_of(&fs::read_to_string(&path).unwrap()),
            )
        })
        .filter(|(room, ..)| room != "lib")
        .collect();
    all.sort();
    all
}

/// The text without comments and without the inline tests at the end.
fn code_of(text: &str) -> String {
    let code = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text);
    let lines = code
        .lines()
        .map(|line| line.split("//").next().unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// Rooms named by `crate::room` paths, groups in braces included.
pub(crate) fn rooms_named(code: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(group) => named.extend(heads_of_group(group)),
            None => {
                named.insert(
                    rest.chars()
                        .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
                        .collect(),
                );
            }
        }
    }
    named
}

/// The first word of each member of a `use` group, up to its closing brace.
fn heads_of_group(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut members = vec![String::new()];
    for letter in group.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => members.push(String::new()),
            _ if depth == 0 => members.last_mut().unwrap().push(letter),
            _ => {}
        }
    }
    let head = |member: &String| {
        member
            .trim()
            .split("::")
            .next()
            .unwrap_or("")
            .trim()
            .to_owned()
    };
    members
        .iter()
        .map(head)
        .filter(|head| !head.is_empty())
        .collect()
}

/// Where the code names a room that its own may not, by the table of rooms and what each may name (`*` is all); then what
/// the table allows and nobody names.
pub(crate) fn wrong_arrows(
    table: &[(&str, &[&str])],
    sources: Vec<(String, PathBuf, String)>,
) -> Vec<String> {
    let known: BTreeSet<&str> = table.iter().map(|(room, _)| *room).collect();
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for (room, path, code) in sources {
        let Some((_, may)) = table.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("{}: '{room}' is not in the table", path.display()));
            continue;
        };
        for named in rooms_named(&code) {
            let is_allowed = named == room || may.contains(&"*") || may.contains(&named.as_str());
            if known.contains(named.as_str()) && !is_allowed {
                wrong.push(format!(
                    "{}: '{room}' may not name '{named}'",
                    path.display()
                ));
            }
            used.insert((room.clone(), named));
        }
    }
    for (room, may) in table {
        let unused = may.iter().filter(|named| {
            **named != "*" && !used.contains(&((*room).to_owned(), (**named).to_owned()))
        });
        wrong.extend(unused.map(|named| format!("'{room}' never names '{named}'")));
    }
    wrong
}
