//! The generated copies are what the types say. `UPDATE=1 cargo test -p coord-operator --test crds` rewrites them.

use std::path::Path;

use coord_operator::crd;

#[test]
fn the_crds_in_the_tree_are_generated_from_the_types() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let generated = crd::yaml();
    for copy in [
        "crds/coord.dev_coordclusters.yaml",
        "charts/coord-operator/files/coord.dev_coordclusters.yaml",
    ] {
        let path = root.join(copy);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &generated).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            found, generated,
            "{copy} is out of date; UPDATE=1 rewrites it"
        );
    }
}

/// `kubectl apply` keeps the last version in an annotation, which holds 256 KiB.
#[test]
fn the_crd_fits_into_an_annotation() {
    assert!(crd::yaml().len() < 200_000);
}

#[test]
fn the_examples_are_what_the_types_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let cluster: crd::CoordCluster =
            serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(cluster.metadata.name.is_some());
    }
}
