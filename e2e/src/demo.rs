//! What `make up` shows: Kubernetes, the operator, a cluster of three members, a write and a read, and what to try next.
//!
//! Runs on the local Kubernetes, or on the one that `KUBECONFIG` names. Every step asks what is there first: a second
//! run changes nothing.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::local_kubernetes::Instance;
use crate::local_kubernetes::run::{cmd, run, tail};
use crate::local_kubernetes::steps::{Notes, Outcome, Steps, wait_until};
use crate::local_kubernetes::tools::{Tools, workspace};
use crate::product::{self, Images};

/// Where the operator lives.
const OPERATOR_NAMESPACE: &str = "coord-system";
/// The Helm release, and the Deployment it makes.
const OPERATOR: &str = "coord-operator";
/// The cluster of the example, in namespace `default`.
const CLUSTER: &str = "demo";

/// The Kubernetes that it runs on.
#[derive(Debug)]
enum Target {
    /// One of ours.
    Local(Instance),
    /// Somebody's, by its kubeconfig. Never taken down, and images get there by other means.
    Given(PathBuf),
}

/// A Kubernetes with the programs to talk to it.
#[derive(Debug)]
struct Shell {
    kubeconfig: PathBuf,
    tools: Tools,
}

impl Shell {
    fn program(&self, name: &str) -> Result<Command> {
        let mut command = cmd([self.tools.program(name)?]);
        command.env("KUBECONFIG", &self.kubeconfig);
        Ok(command)
    }

    fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().context("a line has a program")?;
        run(self.program(program)?.args(words))
    }
}

/// Brings everything up with binaries of cargo's `profile`, and prints the steps and what to try next.
pub fn up(instance: Instance, profile: &str) -> Result<()> {
    let target = target(instance)?;
    let mut steps = Steps::new(match target {
        Target::Local(_) => Instance::STEPS + 4,
        Target::Given(_) => 5,
    });
    let kubeconfig = match &target {
        Target::Local(instance) => {
            instance.up_in(&mut steps)?;
            instance.kubeconfig()
        }
        Target::Given(kubeconfig) => kubeconfig.clone(),
    };
    // Built by the steps above, or needed now for kubectl, Helm and etcdctl.
    let (tools, built) = Tools::build(&mut Notes::new())?;
    let shell = Shell { kubeconfig, tools };
    if let Target::Given(kubeconfig) = &target {
        steps.step("programs", |_| Ok(built))?;
        eprintln!(
            "        using the Kubernetes of KUBECONFIG={}",
            kubeconfig.display()
        );
    }

    let mut images = None;
    steps.step("images", |notes| {
        let (built, outcome) = load_images(&target, profile, notes)?;
        images = Some(built);
        Ok(outcome)
    })?;
    let images = images.context("the step above has set it")?;
    steps.step("operator", |notes| install_operator(&shell, &images, notes))?;
    steps.step("cluster demo", |notes| create_cluster(&shell, notes))?;
    let mut endpoint = None;
    steps.step("write and read", |_| {
        let (used, outcome) = write_and_read(&target, &shell)?;
        endpoint = used;
        Ok(outcome)
    })?;
    let seconds = steps.elapsed().as_secs();
    eprintln!(
        "\nReady after {seconds} s; {}.",
        match steps.changed() {
            0 => "nothing had to change".to_owned(),
            changed => format!("{changed} steps had something to do"),
        }
    );
    print!("{}", next(&target, endpoint.as_deref()));
    Ok(())
}

/// `KUBECONFIG` decides, unless it is the instance's own: people export that, as we tell them to.
fn target(instance: Instance) -> Result<Target> {
    match std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty()) {
        Some(given) if Path::new(&given) != instance.kubeconfig() => {
            let given = PathBuf::from(given);
            ensure!(
                given.is_file(),
                "KUBECONFIG={} is no file: unset KUBECONFIG to get a local Kubernetes",
                given.display()
            );
            Ok(Target::Given(given))
        }
        _ => Ok(Target::Local(instance)),
    }
}

fn load_images(target: &Target, profile: &str, notes: &mut Notes) -> Result<(Images, Outcome)> {
    let images = product::build_images(profile)?;
    let names = [&images.server, &images.operator].map(|archive| archive.reference.clone());
    let what = names.join(", ");
    let outcome = match target {
        Target::Local(instance) => {
            let mut changed = false;
            for archive in [&images.server, &images.operator] {
                changed |= instance.import_image(archive)?;
            }
            if changed {
                Outcome::Done(what)
            } else {
                Outcome::Already(what)
            }
        }
        Target::Given(_) => {
            notes.say("load these into its nodes, if they are not there:");
            for archive in [&images.server, &images.operator] {
                notes.say(&format!(
                    "  kind load image-archive {}",
                    archive.file.display()
                ));
            }
            Outcome::Already(what)
        }
    };
    Ok((images, outcome))
}

fn install_operator(shell: &Shell, images: &Images, notes: &mut Notes) -> Result<Outcome> {
    let chart = workspace().join("charts").join(OPERATOR);
    let [(repository, tag), (server_repository, server_tag)] =
        [images.operator.parts(), images.server.parts()];
    let values = [
        format!("image.repository={repository}"),
        format!("image.tag={tag}"),
        format!("server.image.repository={server_repository}"),
        format!("server.image.tag={server_tag}"),
    ];
    // Helm counts a release even if nothing differs: what was installed is written into its description.
    let description = format!("coord-e2e {}", fingerprint(&chart, &values)?);
    let status = shell.run(&format!(
        "helm status {OPERATOR} --namespace {OPERATOR_NAMESPACE} --output json"
    ));
    let installed = status.is_ok_and(|text| {
        let status: Value = serde_json::from_str(&text).unwrap_or_default();
        status["info"]["status"] == "deployed"
            && status["info"]["description"] == description.as_str()
    });
    if !installed {
        let mut helm = shell.program("helm")?;
        helm.args(["upgrade", "--install", OPERATOR]).arg(&chart);
        helm.args(["--namespace", OPERATOR_NAMESPACE, "--create-namespace"]);
        helm.args(["--description", &description]);
        for value in &values {
            helm.args(["--set-string", value]);
        }
        run(&mut helm)?;
    }
    wait_until(notes, Duration::from_secs(90), || {
        let line = format!(
            "kubectl rollout status deployment {OPERATOR} --namespace={OPERATOR_NAMESPACE} --watch=false"
        );
        match shell.run(&line) {
            Ok(said) if said.contains("successfully rolled out") => Ok(()),
            Ok(said) => Err(said.trim().to_owned()),
            Err(error) => Err(tail(&error.to_string(), 1)),
        }
    })?;
    let what = format!("Helm release {OPERATOR} in {OPERATOR_NAMESPACE}");
    Ok(if installed {
        Outcome::Already(what)
    } else {
        Outcome::Done(what)
    })
}

/// Changes when a file of the chart or a value does.
fn fingerprint(chart: &Path, values: &[String]) -> Result<String> {
    let mut files = Vec::new();
    let mut folders = vec![chart.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path)
            } else {
                files.push(path)
            }
        }
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        hash.update(file.strip_prefix(chart)?.as_os_str().as_encoded_bytes());
        hash.update(std::fs::read(&file)?);
    }
    for value in values {
        hash.update(value);
    }
    Ok(hash
        .finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn create_cluster(shell: &Shell, notes: &mut Notes) -> Result<Outcome> {
    let example = workspace().join("docs/examples/cluster.yaml");
    let applied = run(shell
        .program("kubectl")?
        .arg("apply")
        .arg("--filename")
        .arg(&example))?;
    let changed = applied.lines().any(|line| !line.ends_with("unchanged"));
    wait_until(notes, Duration::from_secs(180), || {
        let line = format!("kubectl get coordcluster {CLUSTER} --namespace=default --output=json");
        let text = shell
            .run(&line)
            .map_err(|error| tail(&error.to_string(), 1))?;
        let cluster: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        is_ready(&cluster)
    })?;
    let what = format!("CoordCluster {CLUSTER} is Ready with three members");
    Ok(if changed {
        Outcome::Done(what)
    } else {
        Outcome::Already(what)
    })
}

/// Ready for its current spec, or what its status says instead.
fn is_ready(cluster: &Value) -> Result<(), String> {
    let status = &cluster["status"];
    let condition = status["conditions"]
        .as_array()
        .and_then(|all| all.iter().find(|condition| condition["type"] == "Ready"));
    let Some(condition) = condition else {
        return Err("the operator has not looked at it yet".into());
    };
    let is_current = condition["observedGeneration"] == cluster["metadata"]["generation"];
    if condition["status"] == "True" && is_current {
        return Ok(());
    }
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    let message = condition["message"].as_str().unwrap_or("not Ready");
    Err(format!(
        "{} of 3 members healthy: {message}",
        number("healthyReplicas")
    ))
}

/// Through etcd's own client. Returns the endpoint if it can be used from this host as it is.
fn write_and_read(target: &Target, shell: &Shell) -> Result<(Option<String>, Outcome)> {
    const KEY: &str = "hello";
    let (endpoint, _forward) = match target {
        // The host has a route to Services.
        Target::Local(_) => {
            let line = format!(
                "kubectl get service {CLUSTER}-client --namespace=default --output=jsonpath={{.spec.clusterIP}}"
            );
            (format!("http://{}:2379", shell.run(&line)?), None)
        }
        Target::Given(_) => (
            "http://127.0.0.1:12379".to_owned(),
            Some(Forward::start(shell)?),
        ),
    };
    let etcdctl = |words: &[&str]| {
        run(shell
            .program("etcdctl")?
            .args(["--endpoints", &endpoint])
            .args(words))
    };
    let mut notes = Notes::new();
    let mut value = String::new();
    wait_until(&mut notes, Duration::from_secs(20), || {
        value = etcdctl(&["get", KEY, "--print-value-only"])
            .map_err(|error| tail(&error.to_string(), 1))?;
        Ok(())
    })?;
    let written = value.trim() == "world";
    if !written {
        etcdctl(&["put", KEY, "world"])?;
        value = etcdctl(&["get", KEY, "--print-value-only"])?;
    }
    if value.trim() != "world" {
        bail!("etcdctl put {KEY} world, and then read {value:?}");
    }
    let what = format!("etcdctl: {KEY} = {}", value.trim());
    let usable = matches!(target, Target::Local(_)).then_some(endpoint);
    Ok((
        usable,
        if written {
            Outcome::Already(what)
        } else {
            Outcome::Done(what)
        },
    ))
}

/// A port-forward to the cluster, for as long as this lives.
struct Forward(Child);

impl Forward {
    fn start(shell: &Shell) -> Result<Self> {
        let mut kubectl = shell.program("kubectl")?;
        kubectl.args([
            "port-forward",
            &format!("service/{CLUSTER}-client"),
            "12379:2379",
        ]);
        Ok(Self(
            kubectl
                .arg("--namespace=default")
                .stdout(Stdio::null())
                .spawn()?,
        ))
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // Ended on its own is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lines to copy into a shell.
fn next(target: &Target, endpoint: Option<&str>) -> String {
    let mut lines = vec![String::new(), "Try next:".into(), String::new()];
    let mut line = |text: &str| lines.push(format!("  {text}"));
    match target {
        Target::Local(instance) => {
            line(&format!(
                "export KUBECONFIG={}",
                instance.kubeconfig().display()
            ));
            line(&format!(
                "export PATH={}:$PATH",
                instance.layout().bin().display()
            ));
        }
        Target::Given(_) => line(&format!(
            "kubectl port-forward service/{CLUSTER}-client 2379 &"
        )),
    }
    if let Some(endpoint) = endpoint {
        line(&format!("export ETCDCTL_ENDPOINTS={endpoint}"));
    }
    line("kubectl get coordclusters");
    line("etcdctl put greeting hello && etcdctl get greeting");
    line(&format!(
        "kubectl scale coordcluster {CLUSTER} --replicas=5"
    ));
    line(&format!(
        "kubectl wait coordcluster {CLUSTER} --for=condition=Ready --timeout=120s"
    ));
    line(&format!("kubectl delete pod {CLUSTER}-0-0"));
    line("kubectl get pods --output=wide");
    line("make status");
    line("make down");
    lines.join("\n") + "\n"
}
