//! `coord-operator explain`: the operator's observation and plan, for a bug report or a worried look.
//!
//! Runs where pods can be reached, such as in the operator's own pod. It reads, and writes nothing.

use std::io::Write;

use anyhow::Context;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client};
use serde_json::json;

use crate::cli::ExplainArgs;
use crate::crd::CoordCluster;
use crate::member_client::Route;
use crate::observe::{Memory, observe};
use crate::plan::plan;
use crate::validate::validate;

/// Prints `{observed, plan}` or `{observed, problems}`.
pub async fn explain(args: &ExplainArgs) -> anyhow::Result<()> {
    let client = Client::try_default()
        .await
        .context("no way to an API server: neither in a pod nor a kubeconfig")?;
    let clusters: Api<CoordCluster> = Api::namespaced(client.clone(), &args.namespace);
    let cluster = clusters.get(&args.name).await?;
    let now = Timestamp::now().as_second();
    let observed = observe(
        &client,
        &Route::PodAddress,
        &mut Memory::default(),
        &cluster,
        now,
    )
    .await?;
    let images = args.images.clone().into();
    let explained = match validate(&cluster, &observed, &images) {
        Ok(desired) => json!({ "observed": observed, "plan": plan(&desired, &observed, now) }),
        Err(problems) => {
            let problems: Vec<_> = problems
                .iter()
                .map(|p| json!({ "field": p.field, "message": p.message }))
                .collect();
            json!({ "observed": observed, "problems": problems })
        }
    };
    let text = serde_json::to_string_pretty(&explained)?;
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}
