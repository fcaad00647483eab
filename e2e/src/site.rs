//! Coord on a Kubernetes, whichever it is: its images in the nodes, its operator by Helm, its Services within reach.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::local_kubernetes::Instance;
use crate::local_kubernetes::run::{cmd, run, tail};
use crate::local_kubernetes::steps::{Notes, Outcome, Steps, wait_until};
use crate::local_kubernetes::tools::{Tools, workspace};
use crate::product::{self, Images};

/// Where the operator lives.
pub const OPERATOR_NAMESPACE: &str = "coord-system";
/// The Helm release, and the Deployment it makes.
pub const OPERATOR: &str = "coord-operator";

/// A Kubernetes, with the programs to talk to it.
#[derive(Debug)]
pub struct Site {
    kubeconfig: PathBuf,
    tools: Tools,
    /// None if it is somebody's: that is never taken down, and images get there by other means.
    local: Option<Instance>,
}

impl Site {
    /// How many steps [`Site::open`] and the two installations take.
    pub fn steps(instance: &Instance) -> Result<usize> {
        let open = if given(instance)?.is_some() {
            1
        } else {
            Instance::STEPS
        };
        Ok(open + 2)
    }

    /// The Kubernetes that `KUBECONFIG` names, or else `instance`, brought up.
    pub fn open(instance: Instance, steps: &mut Steps) -> Result<Self> {
        let Some(kubeconfig) = given(&instance)? else {
            instance.up_in(steps)?;
            let (tools, _) = Tools::build(&mut Notes::new())?;
            return Ok(Self {
                kubeconfig: instance.kubeconfig(),
                tools,
                local: Some(instance),
            });
        };
        let mut tools = None;
        steps.step("programs", |notes| {
            notes.say(&format!(
                "using the Kubernetes of KUBECONFIG={}",
                kubeconfig.display()
            ));
            let (built, outcome) = Tools::build(notes)?;
            tools = Some(built);
            Ok(outcome)
        })?;
        Ok(Self {
            kubeconfig,
            tools: tools.context("the step above has set it")?,
            local: None,
        })
    }

    /// How to log in as its administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The local Kubernetes, if it is one.
    #[must_use]
    pub fn local(&self) -> Option<&Instance> {
        self.local.as_ref()
    }

    /// `kubectl`, `helm`, `etcdctl` and the like, pointed at this Kubernetes.
    pub fn program(&self, name: &str) -> Result<Command> {
        let mut command = cmd([self.tools.program(name)?]);
        command.env("KUBECONFIG", &self.kubeconfig);
        Ok(command)
    }

    /// Runs a line such as `kubectl get pods` and returns what it printed. No quoting: words end at spaces.
    pub fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().context("a line has a program")?;
        run(self.program(program)?.args(words))
    }

    /// Builds the images with cargo's `profile` and loads them into the nodes.
    ///
    /// Into somebody's Kubernetes nothing is loaded; it says how.
    pub fn load_images(&self, profile: &str, steps: &mut Steps) -> Result<Images> {
        let mut images = None;
        steps.step("images", |notes| {
            // cargo prints below this line.
            notes.say(&format!("cargo build --profile {profile}"));
            let built = product::build_images(profile)?;
            let archives = [&built.server, &built.operator];
            let mut changed = false;
            if let Some(instance) = &self.local {
                for archive in archives {
                    changed |= instance.import_image(archive)?;
                }
            } else {
                notes.say("load these into its nodes, if they are not there:");
                for archive in archives {
                    notes.say(&format!(
                        "  kind load image-archive {}",
                        archive.file.display()
                    ));
                }
            }
            let what = archives.map(|archive| archive.reference.clone()).join(", ");
            images = Some(built);
            Ok(Outcome::of(changed, what))
        })?;
        images.context("the step above has set it")
    }

    /// Installs the operator with Helm, or upgrades it to these images, and waits for its Deployment.
    pub fn install_operator(&self, images: &Images, steps: &mut Steps) -> Result<()> {
        steps.step("operator", |notes| {
            let changed = self.helm_operator(images)? | self.scale_operator(0, 1)?;
            self.wait_for_deployment(OPERATOR_NAMESPACE, OPERATOR, notes)?;
            Ok(Outcome::of(
                changed,
                format!("Helm release {OPERATOR} in {OPERATOR_NAMESPACE}"),
            ))
        })
    }

    fn helm_operator(&self, images: &Images) -> Result<bool> {
        let chart = workspace().join("charts").join(OPERATOR);
        let (repository, tag) = images.operator.parts();
        let (server_repository, server_tag) = images.server.parts();
        let values = [
            format!("image.repository={repository}"),
            format!("image.tag={tag}"),
            format!("server.image.repository={server_repository}"),
            format!("server.image.tag={server_tag}"),
        ];
        // Helm counts a release even if nothing differs: what was installed is written into its description.
        let description = format!("coord-e2e {}", fingerprint(&chart, &values)?);
        let status =
            format!("helm status {OPERATOR} --namespace {OPERATOR_NAMESPACE} --output json");
        let is_installed = self.run(&status).is_ok_and(|text| {
            let status: Value = serde_json::from_str(&text).unwrap_or_default();
            let info = &status["info"];
            info["status"] == "deployed" && info["description"] == description.as_str()
        });
        if is_installed {
            return Ok(false);
        }
        let mut helm = self.program("helm")?;
        helm.args(["upgrade", "--install", OPERATOR]).arg(&chart);
        helm.args(["--namespace", OPERATOR_NAMESPACE, "--create-namespace"]);
        helm.args(["--description", &description]);
        // Tests patch the schema of CoordClusters, and an upgrade after them must have it back.
        helm.arg("--force-conflicts");
        for value in &values {
            helm.args(["--set-string", value]);
        }
        run(&mut helm)?;
        Ok(true)
    }

    /// Ends the installed operator's pods until the next [`Site::install_operator`], and waits until they are gone.
    pub fn pause_operator(&self) -> Result<()> {
        self.scale_operator(1, 0)?;
        let line = format!(
            "kubectl get pods --namespace={OPERATOR_NAMESPACE} --selector=app.kubernetes.io/instance={OPERATOR} --output=name"
        );
        wait_until(&mut Notes::new(), Duration::from_secs(120), || {
            let pods = self
                .run(&line)
                .map_err(|error| tail(&error.to_string(), 1))?;
            if pods.trim().is_empty() {
                Ok(())
            } else {
                Err(format!("still there: {}", pods.trim()))
            }
        })
    }

    /// Returns true if its Deployment asked for `from` pods, and now for `to`.
    fn scale_operator(&self, from: u32, to: u32) -> Result<bool> {
        let what = format!("deployment {OPERATOR} --namespace={OPERATOR_NAMESPACE}");
        let replicas = self.run(&format!(
            "kubectl get {what} --output=jsonpath={{.spec.replicas}}"
        ))?;
        if replicas.trim() != from.to_string() {
            return Ok(false);
        }
        self.run(&format!("kubectl scale {what} --replicas={to}"))?;
        Ok(true)
    }

    /// The text of a kubeconfig with the rights that the chart gives the operator, good for some hours.
    pub fn operator_kubeconfig(&self) -> Result<String> {
        let token = self.run(&format!(
            "kubectl create token {OPERATOR} --namespace={OPERATOR_NAMESPACE} --duration=8h"
        ))?;
        let mut config: Value =
            serde_saphyr::from_str(&std::fs::read_to_string(&self.kubeconfig)?)?;
        for user in config["users"]
            .as_array_mut()
            .context("a kubeconfig has users")?
        {
            user["user"] = json!({ "token": token.trim() });
        }
        Ok(config.to_string())
    }

    fn wait_for_deployment(&self, namespace: &str, name: &str, notes: &mut Notes) -> Result<()> {
        wait_until(notes, Duration::from_secs(240), || {
            let line = format!(
                "kubectl rollout status deployment {name} --namespace={namespace} --watch=false"
            );
            match self.run(&line) {
                Ok(said) if said.contains("successfully rolled out") => Ok(()),
                Ok(said) => Err(said.trim().to_owned()),
                Err(error) => Err(tail(&error.to_string(), 1)),
            }
        })
    }

    /// A way from this process to a Service's port: its own address if this host has a route to it, else a
    /// port-forward for as long as the value lives.
    pub fn reach(&self, namespace: &str, service: &str, port: u16) -> Result<Endpoint> {
        if self.local.is_some() {
            let line = format!(
                "kubectl get service {service} --namespace={namespace} --output=jsonpath={{.spec.clusterIP}}"
            );
            return Ok(Endpoint {
                address: format!("{}:{port}", self.run(&line)?),
                forward: None,
            });
        }
        let mut kubectl = self.program("kubectl")?;
        kubectl.args([
            "port-forward",
            &format!("service/{service}"),
            &format!(":{port}"),
        ]);
        kubectl
            .arg(format!("--namespace={namespace}"))
            .stdout(Stdio::piped());
        let mut child = kubectl.spawn()?;
        let stdout = child.stdout.take().expect("stdout was piped above");
        let mut endpoint = Endpoint {
            address: String::new(),
            forward: Some(child),
        };
        // "Forwarding from 127.0.0.1:40123 -> 2379"
        let mut lines = BufReader::new(stdout);
        let mut line = String::new();
        lines.read_line(&mut line)?;
        let address = line.split_whitespace().nth(2);
        endpoint.address = address
            .with_context(|| format!("kubectl port-forward said {line:?}"))?
            .to_owned();
        // It prints a line per connection, and dies if nobody takes them. Ends with kubectl, which dies with `endpoint`.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Ok(endpoint)
    }
}

/// A `HOST:PORT` that this process can connect to.
#[derive(Debug)]
pub struct Endpoint {
    address: String,
    forward: Option<Child>,
}

impl Endpoint {
    /// `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `http://HOST:PORT`, as etcd's clients want it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some(child) = &mut self.forward {
            // Ended on its own is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The file that `KUBECONFIG` names, unless it is the instance's own: people export that, as `make up` tells them to.
fn given(instance: &Instance) -> Result<Option<PathBuf>> {
    let given = std::env::var_os("KUBECONFIG")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from);
    let Some(given) = given.filter(|given| *given != instance.kubeconfig()) else {
        return Ok(None);
    };
    ensure!(
        given.is_file(),
        "KUBECONFIG={} is no file: unset KUBECONFIG to get a local Kubernetes",
        given.display()
    );
    Ok(Some(given))
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
