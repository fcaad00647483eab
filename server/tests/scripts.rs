//! Printed scripts of the law: commands and what they did, in `testdata/{apply,mvcc}`. `UPDATE=1` rewrites the answers;
//! read the difference before you commit it. Each line of a script without indent is a command, the indented lines after
//! it are its answer, `#` begins a comment. [`script`] has the language.

#![expect(clippy::unwrap_used, reason = "a script that is wrong ends the test")]

mod script;

use std::fs;
use std::path::Path;

use script::Session;

fn run(folder: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/testdata")
        .join(folder);
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    let mut wrong = Vec::new();
    for path in paths {
        let written = fs::read_to_string(&path).unwrap();
        let mut session = Session::new();
        let mut printed = String::new();
        for line in written.lines().filter(|line| !line.starts_with("  ")) {
            printed.push_str(line);
            printed.push('\n');
            if !line.is_empty() && !line.starts_with('#') {
                for answer in session.run(line) {
                    printed.push_str(&format!("  {answer}\n"));
                }
            }
        }
        if printed != written {
            if std::env::var_os("UPDATE").is_some() {
                fs::write(&path, printed).unwrap();
            } else {
                wrong.push(format!("{}:\n{printed}", path.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "the law prints otherwise:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn apply_scripts_print_what_they_did() {
    run("apply");
}

#[test]
fn mvcc_scripts_print_what_they_did() {
    run("mvcc");
}
