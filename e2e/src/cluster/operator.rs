//! The operator as a process of this host, for one namespace: tests kill it, stop it and starve it at will.
//!
//! It has the rights that the chart gives it and no more, and reaches members by the host's routes to pods. The one
//! that Helm installed must not act beside it: see `Kubernetes::without_operator`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::local_kubernetes::run::{cmd, tail};

/// Everything that the operators of one test have in common.
#[derive(Debug)]
pub struct Operators {
    program: PathBuf,
    kubeconfig: PathBuf,
    namespace: String,
    /// Repository and tag of the server image for new clusters.
    server: (String, String),
    folder: tempfile::TempDir,
}

/// One process. Dropping it kills it.
#[derive(Debug)]
pub struct Operator {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Operators {
    /// Operators of `program` that look after `namespace` and hand out the image `server`. `kubeconfig` is the text of
    /// the file that they log in with.
    pub fn new(
        program: &Path,
        kubeconfig: &str,
        namespace: &str,
        server: (String, String),
    ) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("coord-operator-")
            .tempdir()?;
        let file = folder.path().join("kubeconfig");
        fs::write(&file, kubeconfig)?;
        Ok(Self {
            program: program.to_owned(),
            kubeconfig: file,
            namespace: namespace.to_owned(),
            server,
            folder,
        })
    }

    /// As [`Operators::start`], but every call goes to `api_server`, an `http://` address.
    pub fn start_through(&self, name: &str, api_server: &str) -> Result<Operator> {
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&self.kubeconfig)?)?;
        for cluster in config["clusters"]
            .as_array_mut()
            .context("a kubeconfig has clusters")?
        {
            cluster["cluster"] = json!({ "server": api_server });
        }
        let file = self.folder.path().join(format!("{name}.kubeconfig"));
        fs::write(&file, config.to_string())?;
        self.spawn(name, &["--leader-election=false"], &file)
    }

    /// Starts one called `name`, alone: it has no lease.
    pub fn start(&self, name: &str, flags: &[&str]) -> Result<Operator> {
        self.spawn(
            name,
            &[&["--leader-election=false"], flags].concat(),
            &self.kubeconfig,
        )
    }

    /// Starts one called `name` that acts while it holds the lease of its namespace, logged in with `kubeconfig`.
    pub fn start_with_lease(
        &self,
        name: &str,
        flags: &[&str],
        kubeconfig: &Path,
    ) -> Result<Operator> {
        let lease = format!("--lease-namespace={}", self.namespace);
        self.spawn(name, &[&[lease.as_str()], flags].concat(), kubeconfig)
    }

    fn spawn(&self, name: &str, flags: &[&str], kubeconfig: &Path) -> Result<Operator> {
        // Appended to: one name may be started many times.
        let log = self.folder.path().join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let (repository, tag) = &self.server;
        let child = cmd([&self.program])
            .arg("run")
            .arg(format!("--watch-namespace={}", self.namespace))
            .arg(format!("--server-image-repository={repository}"))
            .arg(format!("--server-image-tag={tag}"))
            .arg(format!("--identity={name}"))
            .args([
                "--http-address=127.0.0.1:0",
                "--log-format=text",
                "--log-level=debug,kube=info,hyper=info,tower=info,h2=info,rustls=info",
            ])
            .args(flags)
            .env("KUBECONFIG", kubeconfig)
            .stdout(Stdio::from(file.try_clone()?))
            .stderr(file)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        Ok(Operator {
            name: name.to_owned(),
            child,
            log,
        })
    }
}

impl Operator {
    /// Ends it without a chance to say anything.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!(
                    "operator {} runs on after {} s:\n{}",
                    self.name,
                    limit.as_secs(),
                    self.said()
                );
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until it has stopped itself (`--pause-before-step`).
    pub async fn wait_stopped(&mut self, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        loop {
            ensure!(
                self.ended()?.is_none(),
                "operator {} ended:\n{}",
                self.name,
                self.said()
            );
            if waitid(WaitId::Pid(self.pid()), options)?.is_some_and(|status| status.stopped()) {
                return Ok(());
            }
            if Instant::now() > end {
                bail!(
                    "operator {} did not stop itself:\n{}",
                    self.name,
                    self.said()
                );
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Lets it run on after it was stopped.
    pub fn resume(&self) -> Result<()> {
        Ok(kill_process(self.pid(), Signal::CONT)?)
    }

    /// The last lines it wrote.
    #[must_use]
    pub fn said(&self) -> String {
        tail(&fs::read_to_string(&self.log).unwrap_or_default(), 60)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "operator {}, {}:\n{}",
                self.name,
                self.log.display(),
                self.said()
            );
        }
        // Ended on its own is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
