//! etcd's own Go client, its concurrency package included, against a cluster of three.

use std::process::Command;

use coord_e2e::clients::programs;
use coord_e2e::cluster::claims;
use coord_e2e::cluster::{Cluster, Kind};

/// Claims that `e2e/clients/go` prints a line about.
const CLAIMS: usize = 16;

#[test]
fn every_claim_of_the_go_client_holds() {
    claims::run(async {
        let program = programs::go_claims()?;
        let cluster = Cluster::start(Kind::Processes(3)).await?;
        let output = Command::new(program)
            .arg(cluster.endpoints().join(","))
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(
            said.lines().filter(|line| line.starts_with("ok ")).count(),
            CLAIMS,
            "{said}"
        );
        Ok(())
    });
}
