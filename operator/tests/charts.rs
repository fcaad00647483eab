//! Demands on the charts that hold without rendering them. Rendering and installing is for e2e, which has Helm.

use std::path::{Path, PathBuf};

fn templates(chart: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../charts")
        .join(chart)
        .join("templates");
    let entries = std::fs::read_dir(folder).expect("the chart has templates");
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    paths
        .map(|path| {
            (
                path.clone(),
                std::fs::read_to_string(path).expect("a text file"),
            )
        })
        .collect()
}

#[test]
fn no_rule_grants_everything() {
    for (path, text) in templates("coord-operator") {
        for line in text.lines() {
            let is_rule = ["verbs:", "resources:", "apiGroups:"]
                .iter()
                .any(|key| line.contains(key));
            assert!(
                !(is_rule && line.contains('*')),
                "{}: {line}",
                path.display()
            );
        }
    }
}

/// A flag that the program does not know ends it at its start.
#[test]
fn the_deployment_passes_flags_that_the_program_knows() {
    use clap::CommandFactory;
    let command = coord_operator::cli::Cli::command();
    let run = command.find_subcommand("run").unwrap();
    let known: Vec<&str> = run
        .get_arguments()
        .filter_map(|arg| arg.get_long())
        .collect();
    let (_, deployment) = templates("coord-operator")
        .into_iter()
        .find(|(path, _)| path.ends_with("deployment.yaml"))
        .unwrap();
    let passed: Vec<&str> = deployment
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- --")?.split('=').next())
        .collect();
    assert!(passed.len() > 5);
    for flag in passed {
        assert!(known.contains(&flag), "--{flag}");
    }
}

#[test]
fn values_that_the_schema_does_not_know_are_refused() {
    for chart in ["coord-operator", "coord-cluster"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../charts")
            .join(chart);
        let schema = std::fs::read_to_string(folder.join("values.schema.json")).unwrap();
        let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
        assert_eq!(schema["additionalProperties"], false, "{chart}");
        let values = std::fs::read_to_string(folder.join("values.yaml")).unwrap();
        let values: serde_json::Value = serde_saphyr::from_str(&values).unwrap();
        for key in values.as_object().unwrap().keys() {
            assert!(
                schema["properties"].get(key).is_some(),
                "{chart}: {key} is not in the schema"
            );
        }
    }
}
