//! One fault run from start to verdict.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use coord_proto::etcd::etcdserverpb as pb;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::failure::Failure;
use super::load::Load;
use super::record::Record;
use super::scenario::{Scenario, Site};
use super::verdict;
use crate::check::contents::Contents;
use crate::clients::etcd::request::range;
use crate::cluster::process::{Program, failpoints_program};
use crate::cluster::{Cluster, Kind, eventually};
use crate::history::Version;
use crate::nemesis::Evidence;
use crate::nemesis::disk_full::SmallDisk;
use crate::nemesis::disk_slow::{self, Brake};

/// Voters of every cluster.
const MEMBERS: usize = 3;

/// How long clients of a run that failed may take to end: their own limits are shorter.
const FINISH_MAX: Duration = Duration::from_secs(40);
/// However many ways a scenario takes in turn, their number divides this.
const WAYS: u64 = 6;

/// The plan of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The scenario.
    pub scenario: Scenario,
    /// Makes every choice of the run; what real processes make of them differs from run to run.
    pub seed: u64,
    /// Rounds of faults begin as long as this is not over; there are two at least.
    pub time: Duration,
    /// A bug planted in every member, by its name.
    pub bug: Option<&'static str>,
}

/// A run that passed.
#[derive(Debug)]
pub struct Report {
    /// The plan that was run.
    pub plan: Plan,
    /// The faults that happened.
    pub faults: Vec<Evidence>,
    /// The longest time from the end of a fault until every member served again.
    pub recovery: Duration,
    /// The verdict.
    pub judged: verdict::Judged,
}

/// Runs a plan. The record has all it saw in either case.
pub async fn run(plan: &Plan, record: &mut Record) -> Result<Report, Failure> {
    record.scenario = plan.scenario.name().to_owned();
    record.seed = plan.seed;
    let mut site = start(plan).await?;
    let mut faults = Vec::new();
    let recovery = match rounds(plan, &mut site, &mut faults, record).await {
        Ok(recovery) => recovery,
        Err(failure) => {
            // A member that ended by itself explains best what went wrong.
            let failure = site.ended().unwrap_or(failure);
            record.logs = logs(&site.cluster);
            // The record so far is for a person to look at; there is nothing left that clients must reach.
            match tokio::time::timeout(FINISH_MAX, site.load.finish(1, record)).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => println!("a client failed: {why:#}"),
                Err(_) => println!("a client waits for an answer that does not come"),
            }
            return Err(failure);
        }
    };
    site.load.stop_changing().await?;
    let goal = read_all(&site, record).await?;
    site.load.finish(goal, record).await?;
    // One that lost its disk has lost its term with it, and was given up.
    let present = site.cluster.present();
    record
        .sightings
        .retain(|sighting| present.contains(&sighting.member));
    let judged = verdict::judge(record).map_err(|violation| Failure::Broken(violation.0))?;
    Ok(Report {
        plan: plan.clone(),
        faults,
        recovery,
        judged,
    })
}

/// Faults until the time is up; the longest time from the end of one until every member served again.
async fn rounds(
    plan: &Plan,
    site: &mut Site,
    faults: &mut Vec<Evidence>,
    record: &mut Record,
) -> Result<Duration, Failure> {
    let mut recovery = Duration::ZERO;
    site.goes_on().await?;
    while faults.len() < rounds_min(plan.scenario) || site.load.now() < plan.time {
        let began = site.load.now();
        faults.push(site.inflict(plan.scenario).await?);
        let over = site.load.now();
        site.serves_again().await?;
        recovery = recovery.max(site.load.now() - over);
        record.troubled.push((began, site.load.now()));
        site.goes_on().await?;
        if plan.scenario.is_single() {
            break;
        }
    }
    Ok(recovery)
}

fn logs(cluster: &Cluster) -> Vec<(String, Vec<String>)> {
    (0..cluster.len())
        .map(|member| (cluster.name(member).to_owned(), cluster.lines(member)))
        .collect()
}

fn rounds_min(scenario: Scenario) -> usize {
    if scenario.is_single() { 1 } else { 2 }
}

async fn start(plan: &Plan) -> Result<Site> {
    let mut cluster = Cluster::new(Kind::Networked(MEMBERS), plan.scenario.flags())?;
    let brake = Brake::new(cluster.directory())?;
    cluster.set_program(program(plan, &brake)?);
    let mut rng = StdRng::seed_from_u64(plan.seed);
    let small_disk = match plan.scenario {
        Scenario::FullDisk => {
            let member = rand::RngExt::random_range(&mut rng, 0..MEMBERS);
            Some((member, SmallDisk::mount(&cluster.data_dir(member))?))
        }
        _ => None,
    };
    for index in 0..MEMBERS {
        cluster.spawn(index)?;
    }
    for index in 0..MEMBERS {
        cluster.ready(index).await?;
    }
    let load = Load::start(&cluster.endpoints(), plan.seed, plan.scenario.profile())?;
    Ok(Site {
        cluster,
        load,
        rng,
        brake,
        small_disk,
        // Scenarios take their ways in turn, and a short run has no time for all.
        round: usize::try_from(plan.seed % WAYS).unwrap_or(0),
    })
}

/// The server itself, or the one with failpoints if the plan needs either.
fn program(plan: &Plan, brake: &Brake) -> Result<Program> {
    if plan.bug.is_none() && !plan.scenario.needs_seams() {
        return Ok(Program::default());
    }
    let brake = brake.file().to_str().context("a path in UTF-8")?;
    let mut environment = vec![(disk_slow::VARIABLE.to_owned(), brake.to_owned())];
    if plan.scenario == Scenario::PowerCut {
        environment.push(("COORD_FAILPOINT_POWER_CUT".to_owned(), "1".to_owned()));
    }
    if let Some(bug) = plan.bug {
        environment.push(("COORD_FAILPOINT".to_owned(), bug.to_owned()));
    }
    Ok(Program {
        path: Some(failpoints_program()?),
        environment,
    })
}

/// Reads what every member holds; the newest of their revisions.
async fn read_all(site: &Site, record: &mut Record) -> Result<i64, Failure> {
    for member in site.cluster.present() {
        match contents(&site.cluster, member).await {
            Ok(contents) => record.contents.push(contents),
            Err(why) => {
                let failure = Failure::Broken(format!("member {member} cannot be read: {why:#}"));
                return Err(site.ended().unwrap_or(failure));
            }
        }
    }
    let newest = record.contents.iter().map(|contents| contents.revision);
    let newest = newest.max().context("a member is left to read")?;
    Ok(newest)
}

async fn contents(cluster: &Cluster, member: usize) -> Result<Contents> {
    let client = cluster.client_of(member)?;
    let everything = pb::RangeRequest {
        range_end: "\0".into(),
        ..range("\0")
    };
    let answer = eventually("a member is read", || async {
        Ok(client.range(everything.clone()).await?)
    })
    .await?;
    let keys = answer.kvs.iter().map(|kv| {
        let key = String::from_utf8_lossy(&kv.key).into_owned();
        (key, Version::from(kv))
    });
    Ok(Contents {
        member,
        revision: answer.header.map_or(0, |header| header.revision),
        keys: keys.collect(),
    })
}

/// Where records of failed runs are kept.
#[must_use]
pub fn folder() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    workspace.map_or_else(PathBuf::new, |workspace| workspace.join("target/robust"))
}
