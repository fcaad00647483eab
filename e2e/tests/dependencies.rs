//! Demands on Cargo.lock: that a crate which stands in for another is the one in use.

use std::fs;
use std::path::Path;

/// The packages of Cargo.lock: name, and where each is from; `None` for one of the workspace's own.
fn packages() -> Vec<(String, Option<String>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    let text = fs::read_to_string(path).expect("Cargo.lock is part of the repository");
    let value = |block: &str, key: &str| {
        let start = format!("{key} = \"");
        let line = block.lines().find_map(|line| line.strip_prefix(&start));
        line.map(|value| value.trim_end_matches('"').to_owned())
    };
    text.split("[[package]]")
        .filter_map(|block| Some((value(block, "name")?, value(block, "source"))))
        .collect()
}

/// Cargo only warns when a patch no longer fits the version that is asked for, and every member would grow by 27 MB.
#[test]
fn openraft_gets_our_histogram_and_no_other() {
    let packages = packages();
    let histograms: Vec<_> = packages
        .iter()
        .filter(|(name, _)| name == "base2histogram")
        .collect();
    assert_eq!(
        histograms,
        [&("base2histogram".to_owned(), None)],
        "a version from a registry is in use: move server/openraft-histogram to the version that openraft asks for"
    );
    assert!(packages.len() > 100, "Cargo.lock was not read as a whole");
}
