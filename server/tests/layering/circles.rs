//! Finds files that import each other in a circle, however long.
//!
//! A file imports another by a path in a `use` or in the code that leads into it: `crate::`, `super::`, or one of its own
//! modules. Files that name their own parts are not counted: a folder's file is the list of what is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::source;

/// A file, as the path of its module.
type Module = Vec<String>;

/// Each circle below `root`, as its files in order.
pub(crate) fn of(root: &Path) -> Vec<Vec<String>> {
    let sources = source::of(root);
    let modules: BTreeSet<Module> = sources
        .iter()
        .map(|(_, path, _)| module(root, path))
        .collect();
    let imports: BTreeMap<&Module, BTreeSet<&Module>> = sources
        .iter()
        .map(|(_, path, code)| {
            let own = modules.get(&module(root, path)).unwrap();
            let named = paths(code).into_iter();
            let found = named.filter_map(|path| resolve(&modules, own, &path));
            (own, found.filter(|file| !file.starts_with(own)).collect())
        })
        .collect();
    let reach: BTreeMap<&Module, BTreeSet<&Module>> = imports
        .keys()
        .map(|from| (*from, reached(&imports, from)))
        .collect();
    let mut circles = BTreeSet::new();
    for (file, reached) in &reach {
        let back = reached.iter().filter(|other| reach[*other].contains(*file));
        let circle: Vec<String> = back.map(|file| file.join("/")).collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

fn module(root: &Path, path: &Path) -> Module {
    let inside = path.strip_prefix(root).unwrap().with_extension("");
    let parts = inside.components();
    parts
        .map(|part| part.as_os_str().to_str().unwrap().to_owned())
        .collect()
}

fn reached<'a>(
    imports: &BTreeMap<&'a Module, BTreeSet<&'a Module>>,
    from: &Module,
) -> BTreeSet<&'a Module> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&Module> = imports[from].iter().copied().collect();
    while let Some(file) = next.pop() {
        if reached.insert(file) {
            next.extend(&imports[file]);
        }
    }
    reached
}

/// The file that a path in the code of `own` leads into.
fn resolve<'a>(modules: &'a BTreeSet<Module>, own: &Module, path: &[String]) -> Option<&'a Module> {
    let ups = path.iter().take_while(|part| *part == "super").count();
    let (mut at, rest) = match path.first()?.as_str() {
        "crate" => (Vec::new(), &path[1..]),
        "self" => (own.clone(), &path[1..]),
        "super" => (own[..own.len().checked_sub(ups)?].to_vec(), &path[ups..]),
        _ => (own.clone(), path),
    };
    for part in rest {
        at.push(part.clone());
        if !modules.contains(&at) {
            at.pop();
            break;
        }
    }
    modules.get(&at)
}

/// The paths of all `use`s, each name of a group by itself, and those that stand in the code.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for statement in code.split(';') {
        let Some(at) = statement.find("use ") else {
            continue;
        };
        let before = statement[..at].lines().last().unwrap_or("").trim();
        if before.is_empty() || before.starts_with("pub") {
            expand(&[], statement[at + 4..].trim(), &mut found);
        }
    }
    for word in ["crate::", "super::"] {
        for (at, _) in code.match_indices(word) {
            let is_begun =
                code[..at].ends_with(|before: char| before == ':' || before.is_alphanumeric());
            let rest = code[at..]
                .split(|letter: char| !(letter.is_alphanumeric() || "_:".contains(letter)));
            if !is_begun {
                let path = rest.into_iter().next().unwrap_or("");
                found.push(parts(path));
            }
        }
    }
    found
}

fn parts(path: &str) -> Vec<String> {
    let parts = path
        .split("::")
        .map(str::trim)
        .filter(|part| !part.is_empty());
    parts.map(str::to_owned).collect()
}

fn expand(before: &[String], tree: &str, found: &mut Vec<Vec<String>>) {
    let Some((head, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or("");
        found.push([before, &parts(path)].concat());
        return;
    };
    let head = [before, &parts(head)].concat();
    let group = group.rsplit_once('}').map_or(group, |(group, _)| group);
    let (mut depth, mut begin) = (0, 0);
    for (at, letter) in group.char_indices().chain([(group.len(), ',')]) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !group[begin..at].trim().is_empty() {
                    expand(&head, group[begin..at].trim(), found);
                }
                begin = at + 1;
            }
            _ => {}
        }
    }
}

#[test]
fn the_reader_of_paths_resolves_groups_and_supers() {
    let code =
        "pub use crate::a::{self, b::{C, D}};\nuse super::e::F as G;\nlet x = crate::h::i();";
    let named: Vec<String> = paths(code).iter().map(|path| path.join(" ")).collect();
    assert_eq!(
        named,
        [
            "crate a self",
            "crate a b C",
            "crate a b D",
            "super e F",
            "crate a",
            "crate h i",
            "super e F"
        ]
    );
    let modules = ["a", "a/b", "z", "z/e"].map(|file| file.split('/').map(str::to_owned).collect());
    let modules: BTreeSet<Module> = modules.into();
    let resolve = |own: &str, path: &str| {
        let (own, path) = (parts(&own.replace('/', "::")), parts(path));
        resolve(&modules, &own, &path).map(|file| file.join("/"))
    };
    assert_eq!(resolve("z", "crate::a::b::C").as_deref(), Some("a/b"));
    assert_eq!(resolve("z/y", "super::e::F").as_deref(), Some("z/e"));
    assert_eq!(resolve("z/y", "super::super::a::F").as_deref(), Some("a"));
    assert_eq!(resolve("z", "e::F").as_deref(), Some("z/e"));
    assert_eq!(resolve("z", "std::fmt").as_deref(), Some("z"));
}
