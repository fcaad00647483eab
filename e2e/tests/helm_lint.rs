//! Helm's own lint of the charts, with every warning an error.

use std::process::Command;

use coord_e2e::local_kubernetes::steps::Notes;
use coord_e2e::local_kubernetes::tools::{Tools, workspace};

#[test]
fn helm_has_nothing_to_say_about_the_charts() {
    let (tools, _) = Tools::build(&mut Notes::new()).expect("the programs of make test");
    let helm = tools.program("helm").expect("Helm is one of them");
    for chart in ["coord-operator", "coord-cluster"] {
        let mut lint = Command::new(&helm);
        lint.args(["lint", "--strict"])
            .arg(workspace().join("charts").join(chart));
        let said = lint.output().expect("Helm runs");
        assert!(
            said.status.success(),
            "{}{}",
            String::from_utf8_lossy(&said.stdout),
            String::from_utf8_lossy(&said.stderr)
        );
    }
}
