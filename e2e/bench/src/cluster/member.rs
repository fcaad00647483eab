use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use coord_proto::etcd::etcdserverpb::{RangeRequest, RangeResponse, StatusResponse};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Program, status};
use crate::wire::{Connection, Rpc};

/// One member: how to start it, and its process while it runs.
pub struct Member {
    /// `n1`, `n2`, ...
    pub name: String,
    /// Where it serves clients.
    pub client_port: u16,
    /// Its data.
    pub data_dir: PathBuf,
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Member {
    /// Members that are not started yet, each with ports of its own and the same initial cluster.
    pub(super) fn plan(program: &Program, nodes: usize, dir: &Path) -> Result<Vec<Self>> {
        // A run that was cut off may have left its data.
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", dir.display()));
            }
            _ => {}
        }
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        // Held together and let go together, so that no port is given twice.
        let listeners: Vec<TcpListener> = (0..nodes * 2)
            .map(|_| TcpListener::bind("127.0.0.1:0"))
            .collect::<Result<_, _>>()?;
        let ports: Vec<u16> = listeners
            .iter()
            .map(|listener| Ok(listener.local_addr()?.port()))
            .collect::<Result<_>>()?;
        let (client_ports, peer_ports) = ports.split_at(nodes);
        let name = |index: usize| format!("n{}", index + 1);
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let initial: Vec<String> = peer_ports
            .iter()
            .enumerate()
            .map(|(index, port)| format!("{}={}", name(index), url(*port)))
            .collect();
        let members = client_ports
            .iter()
            .zip(peer_ports)
            .enumerate()
            .map(|(index, (client, peer))| {
                let data_dir = dir.join(name(index));
                let mut arguments = [
                    ("name", name(index)),
                    ("data-dir", data_dir.display().to_string()),
                    ("listen-client-urls", url(*client)),
                    ("advertise-client-urls", url(*client)),
                    ("listen-peer-urls", url(*peer)),
                    ("initial-advertise-peer-urls", url(*peer)),
                    ("initial-cluster", initial.join(",")),
                    ("initial-cluster-state", "new".to_owned()),
                ]
                .map(|(flag, value)| format!("--{flag}={value}"))
                .to_vec();
                arguments.extend(program.flags.iter().cloned());
                Self {
                    log: dir.join(format!("{}.log", name(index))),
                    name: name(index),
                    client_port: *client,
                    data_dir,
                    program: program.path.clone(),
                    arguments,
                    child: None,
                }
            })
            .collect();
        Ok(members)
    }

    /// Starts the process; its output goes to a file beside the data.
    pub fn spawn(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .env_remove("ETCD_NAME")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// The process while it runs.
    pub fn pid(&self) -> Result<u32> {
        let child = self.child.as_ref();
        Ok(child
            .with_context(|| format!("{} does not run", self.name))?
            .id())
    }

    /// Waits until it answers a linearizable read.
    pub async fn ready(&mut self, patience: Duration) -> Result<()> {
        let started = Instant::now();
        while !self.answers().await {
            if let Some(exit) = self.child.as_mut().and_then(|child| child.try_wait().ok()?) {
                bail!("{} ended with {exit}: {}", self.name, self.last_words());
            }
            ensure!(
                started.elapsed() < patience,
                "{} is not ready after {patience:?}: {}",
                self.name,
                self.last_words()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn answers(&self) -> bool {
        let ask = async {
            let connection = Connection::open(self.client_port).await?;
            let request = RangeRequest {
                key: Bytes::from_static(b"/ready"),
                ..RangeRequest::default()
            };
            connection
                .call::<RangeResponse>(Rpc::Range, &request)
                .await?;
            anyhow::Ok(())
        };
        matches!(
            tokio::time::timeout(Duration::from_secs(1), ask).await,
            Ok(Ok(()))
        )
    }

    /// How it stands, over a connection of its own.
    pub async fn status(&self) -> Result<StatusResponse> {
        let ask = async { status(&Connection::open(self.client_port).await?).await };
        tokio::time::timeout(Duration::from_secs(1), ask).await?
    }

    /// One number of its metrics page.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let ask = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.client_port)).await?;
            // HTTP/1.0: a page in chunks could be cut in the middle of a number.
            let ask = "GET /metrics HTTP/1.0\r\nhost: localhost\r\n\r\n";
            stream.write_all(ask.as_bytes()).await?;
            let mut page = String::new();
            stream.read_to_string(&mut page).await?;
            anyhow::Ok(page)
        };
        let page = tokio::time::timeout(Duration::from_secs(5), ask).await??;
        let number = page.lines().find_map(|line| line.strip_prefix(name));
        let number = number.with_context(|| format!("{} has no metric {name}", self.name))?;
        Ok(number.trim().parse()?)
    }

    /// Asks it to end and waits until it has.
    pub async fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::TERM)?;
        let started = Instant::now();
        while child.try_wait()?.is_none() {
            if started.elapsed() > super::PATIENCE {
                child.kill()?;
                bail!("{} did not end after SIGTERM", self.name);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails only when it has ended already, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}
