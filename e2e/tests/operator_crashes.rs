//! The operator dies, sleeps, is doubled and is lied to, on a real Kubernetes with real members. Needs root.
//!
//! Each test runs operators of its own as processes, for its own namespace; the installed one sleeps meanwhile.
//! The same faults at every single write, one history each, are in `operator/tests/plan_crashes.rs`.

#[path = "operator/trial.rs"]
mod trial;
#[path = "operator/writer.rs"]
mod writer;

use std::time::Duration;

use coord_e2e::cluster::api_faults::{ApiFault, ApiFaults};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use trial::{READY, Trial, condition, difference, is_at_rest, masked_state, members, spec};

/// The sizes that a workload scales to, one after the other.
const SCALES: [i32; 3] = [3, 5, 3];

/// Every operator of the second cluster makes `each` writes and dies, until the cluster is as wanted.
///
/// The first cluster has one operator throughout. In the end both must look the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_that_die_after_each_write_end_where_one_that_lives_does() {
    let (whole, broken) = tokio::join!(lives(), dies(1));
    let difference = difference(&whole.unwrap(), &broken.unwrap());
    assert!(difference.is_empty(), "{difference}");
}

async fn lives() -> anyhow::Result<Value> {
    let trial = Trial::new("lives").await?;
    let _operator = trial.operators.start("operator", &[])?;
    trial.apply(&spec(1)).await?;
    trial.ready().await?;
    let writer = trial.writer("lives").await?;
    for replicas in SCALES {
        trial.scale(replicas).await?;
        trial.ready().await?;
    }
    let state = masked_state(&trial).await?;
    trial.finish(writer, 100).await?;
    Ok(state)
}

async fn dies(each: u64) -> anyhow::Result<Value> {
    let trial = Trial::new("dies").await?;
    trial.apply(&spec(1)).await?;
    let mut deaths = until_at_rest(&trial, each).await?;
    let writer = trial.writer("dies").await?;
    for replicas in SCALES {
        trial.scale(replicas).await?;
        deaths += until_at_rest(&trial, each).await?;
    }
    eprintln!("{}: {deaths} operators died", trial.namespace);
    anyhow::ensure!(
        deaths > 50,
        "only {deaths} operators died: that is not after each write"
    );
    let state = masked_state(&trial).await?;
    trial.finish(writer, 100).await?;
    Ok(state)
}

/// One operator after the other, each of which dies after `each` writes. Returns how many did.
async fn until_at_rest(trial: &Trial, each: u64) -> anyhow::Result<u32> {
    let flag = format!("--exit-after-writes={each}");
    let end = Instant::now() + READY;
    let mut deaths = 0;
    let mut operator = trial.operators.start("mortal", &[&flag])?;
    loop {
        if let Some(status) = operator.ended()? {
            anyhow::ensure!(status.code() == Some(70), "{status}:\n{}", operator.said());
            deaths += 1;
            operator = trial.operators.start("mortal", &[&flag])?;
        }
        if is_at_rest(&trial.get().await?).is_ok() {
            return Ok(deaths);
        }
        anyhow::ensure!(
            Instant::now() < end,
            "not at rest after {deaths} deaths:\n{}\n{}",
            operator.said(),
            trial.kubernetes.describe(&trial.namespace).await
        );
        sleep(Duration::from_millis(50)).await;
    }
}

/// No lease keeps them apart: only what they check before and with each write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_operators_that_both_act_build_one_cluster_and_keep_it() {
    let trial = Trial::new("both").await.unwrap();
    let _one = trial.operators.start("one", &[]).unwrap();
    let _other = trial.operators.start("other", &[]).unwrap();
    trial.apply(&spec(3)).await.unwrap();
    trial.ready().await.unwrap();
    let writer = trial.writer("both").await.unwrap();
    for replicas in [5, 3] {
        trial.scale(replicas).await.unwrap();
        trial.ready().await.unwrap();
    }
    trial.finish(writer, 100).await.unwrap();
}

/// It has written down that it removes a member, and stops before it does. Meanwhile its lease runs out, another
/// operator takes over, and nobody wants the member removed any more. Then it wakes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_slept_past_its_lease_does_nothing_when_it_wakes() {
    let trial = Trial::new("sleeper").await.unwrap();
    let admin = trial.kubernetes.site().kubeconfig().to_owned();
    let mut builder = trial.operators.start("builder", &[]).unwrap();
    trial.apply(&spec(3)).await.unwrap();
    let before = members(&trial.ready().await.unwrap());
    let writer = trial.writer("sleeper").await.unwrap();
    builder.kill().unwrap();

    trial.scale(1).await.unwrap();
    let flags = ["--pause-before-step=RemoveMember"];
    let mut sleeper = trial
        .operators
        .start_with_lease("sleeper", &flags, &admin)
        .unwrap();
    sleeper.wait_stopped(Duration::from_secs(90)).await.unwrap();
    let cluster = trial.get().await.unwrap();
    assert_eq!(
        cluster["status"]["operation"]["step"], "RemoveMember",
        "{cluster}"
    );

    trial.scale(3).await.unwrap();
    let _successor = trial
        .operators
        .start_with_lease("successor", &[], &admin)
        .unwrap();
    trial.ready().await.unwrap();

    sleeper.resume().unwrap();
    let status = sleeper.wait(Duration::from_secs(60)).await.unwrap();
    assert!(!status.success(), "it lost its lease: {status}");
    assert!(
        !sleeper.said().contains("MemberRemove"),
        "{}",
        sleeper.said()
    );
    let after = trial.ready().await.unwrap();
    assert_eq!(members(&after), before, "nobody was removed");
    trial.finish(writer, 100).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_fails_one_write_in_twenty_delays_and_changes_nothing() {
    let trial = Trial::new("faulty").await.unwrap();
    let seed = rand::random();
    eprintln!("seed of the faults: {seed}");
    let client = trial.kubernetes.bare_client().await.unwrap();
    let faults = ApiFaults::start(client, seed).await.unwrap();
    let _operator = trial
        .operators
        .start_through("operator", faults.address())
        .unwrap();
    trial.apply(&spec(3)).await.unwrap();
    let cluster = trial.ready().await.unwrap();
    let (is_stalled, _, message) = condition(&cluster, "Stalled");
    assert!(!is_stalled, "{message}");
    let writer = trial.writer("faulty").await.unwrap();
    // A hundred writes may miss a kind; it goes on until both have come up.
    let refused = [ApiFault::Conflict, ApiFault::TooMany, ApiFault::Failed];
    let unanswered = [ApiFault::DoneUnanswered, ApiFault::DoneCut];
    for round in 1.. {
        for replicas in [5, 3] {
            trial.scale(replicas).await.unwrap();
            trial.ready().await.unwrap();
        }
        let dealt = faults.dealt();
        eprintln!("{}: {dealt:?}", trial.namespace);
        let happened = |kinds: &[ApiFault]| kinds.iter().any(|kind| dealt.contains_key(kind));
        if happened(&refused) && happened(&unanswered) {
            break;
        }
        assert!(round < 5, "faults of one kind never happened: {dealt:?}");
    }
    trial.finish(writer, 100).await.unwrap();
}
