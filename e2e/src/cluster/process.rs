//! One member as a program that takes etcd's flags: started, signalled, listened to, and ended when dropped.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

/// The line that a member prints once it serves requests, in etcd's words.
const READY: &str = "ready to serve client requests";
/// Well above what a member takes to start or stop on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
/// Lines kept of what a member writes.
const LOG_LINES_MAX: usize = 2_000;
/// Lines shown of it when a test fails.
const LOG_LINES_SHOWN: usize = 25;

/// The program that every member is when tests run against something else: `COORD_ORACLE`.
#[must_use]
pub fn oracle() -> Option<PathBuf> {
    std::env::var_os("COORD_ORACLE").map(PathBuf::from)
}

/// The server program: `COORD_ORACLE`, `COORD_SERVER`, or the workspace's own, which cargo then brings up to date.
pub fn server_program() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    if let Some(path) = oracle().or_else(|| std::env::var_os("COORD_SERVER").map(PathBuf::from)) {
        return Ok(path);
    }
    let built =
        BUILT.get_or_init(|| build("coord-server", &[]).map_err(|error| format!("{error:#}")));
    built.clone().map_err(|error| anyhow!(error))
}

/// The server with bugs planted in it, which cargo brings up to date, or `COORD_SERVER_FAILPOINTS`.
pub fn failpoints_program() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    if let Some(path) = std::env::var_os("COORD_SERVER_FAILPOINTS") {
        return Ok(path.into());
    }
    let built = BUILT.get_or_init(|| {
        let features = ["--features", "coord-server/failpoints"];
        build("coord-server-failpoints", &features).map_err(|error| format!("{error:#}"))
    });
    built.clone().map_err(|error| anyhow!(error))
}

/// The operator that can end or stop itself after a given number of writes, which cargo brings up to date.
pub fn failpoints_operator() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let features = ["--features", "coord-operator/failpoints"];
        build("coord-operator-failpoints", &features).map_err(|error| format!("{error:#}"))
    });
    built.clone().map_err(|error| anyhow!(error))
}

/// A program, where it runs and in which environment.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Instead of [`server_program`].
    pub path: Option<PathBuf>,
    /// Variables beyond the caller's.
    pub environment: Vec<(String, String)>,
}

/// Builds one of the workspace's programs where this test's own lies, so that no stale one is tested.
fn build(program: &str, features: &[&str]) -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    // TARGET/PROFILE/deps/test-hash, or TARGET/PROFILE/coord-e2e
    let folder = test.parent().context("a program lies in a folder")?;
    let profile = match folder.ends_with("deps") {
        true => folder
            .parent()
            .context("a test lies in target/PROFILE/deps")?,
        false => folder,
    };
    let target = profile
        .parent()
        .context("a profile lies in the target folder")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // The workspace as a whole, as `make test` builds it: another selection has other features and builds all again.
    cargo
        .args([
            "build",
            "--quiet",
            "--workspace",
            "--exclude",
            "coord-simulation",
            "--bin",
            program,
            "--target-dir",
        ])
        .arg(target)
        .args(features);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let output = cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .context("cannot run cargo")?;
    ensure!(
        output.status.success(),
        "cannot build {program}:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(profile.join(program))
}

/// A running program. Dropping it kills it; while a test fails, its last lines are printed first.
pub struct Process {
    name: String,
    child: Child,
    log: watch::Receiver<Log>,
}

#[derive(Default)]
struct Log {
    lines: std::collections::VecDeque<String>,
    is_ready: bool,
    /// The program closed its output, so it has ended.
    is_closed: bool,
}

impl Process {
    /// Starts `program` with `words` and begins to read what it writes.
    pub fn spawn(program: &Path, name: &str, words: &[String]) -> Result<Self> {
        Self::spawn_in(None, program, name, words, &[])
    }

    /// As [`Process::spawn`], in a network namespace and with more variables.
    pub fn spawn_in(
        namespace: Option<&str>,
        program: &Path,
        name: &str,
        words: &[String],
        environment: &[(String, String)],
    ) -> Result<Self> {
        let (output, input) = std::io::pipe()?;
        let mut command = match namespace {
            // It becomes the program: same process, same signals.
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
            None => Command::new(program),
        };
        let child = command
            .args(words)
            // Nothing of the caller's environment configures a member under test.
            .env_clear()
            .envs(
                std::env::vars_os()
                    .filter(|(name, _)| !name.to_string_lossy().starts_with("ETCD_")),
            )
            .envs(environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(input.try_clone()?)
            .stderr(input)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let (sender, log) = watch::channel(Log::default());
        std::thread::Builder::new()
            .name(format!("log of {name}"))
            .spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    sender.send_modify(|log| {
                        log.is_ready |= line.contains(READY);
                        log.lines.push_back(line);
                        if log.lines.len() > LOG_LINES_MAX {
                            log.lines.pop_front();
                        }
                    });
                }
                sender.send_modify(|log| log.is_closed = true);
            })?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Waits until it serves requests. Errors: it ended, or took too long; its last lines say why.
    pub async fn ready(&mut self) -> Result<()> {
        self.wait_for(|log| log.is_ready || log.is_closed).await?;
        if self.log.borrow().is_ready {
            return Ok(());
        }
        let status = self.child.wait()?;
        bail!(
            "{} ended ({status}) before it was ready:\n{}",
            self.name,
            self.tail()
        )
    }

    /// The kernel's number for it.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.wait_for(|log| log.is_closed).await?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGKILL, without waiting for the end.
    pub fn begin_kill(&mut self) -> Result<()> {
        Ok(self.child.kill()?)
    }

    /// SIGTERM; waits for the end.
    pub async fn stop(self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        Ok(self.ended().await?.0)
    }

    /// Waits for the end; also returns the last lines it wrote.
    pub async fn ended(mut self) -> Result<(ExitStatus, String)> {
        self.wait_for(|log| log.is_closed).await?;
        Ok((self.child.wait()?, self.tail()))
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&self) -> bool {
        self.log.borrow().is_closed
    }

    /// The last lines it wrote.
    pub fn lines(&self) -> Vec<String> {
        self.log.borrow().lines.iter().cloned().collect()
    }

    /// Whether it has written a line with this text, lately.
    pub fn has_said(&self, text: &str) -> bool {
        let log = self.log.borrow();
        log.lines.iter().any(|line| line.contains(text))
    }

    /// SIGSTOP.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Whether the operating system has stopped it.
    pub fn is_paused(&self) -> Result<bool> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // "id (name) state ...": the name may hold anything.
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
        Ok(state.is_some_and(|rest| rest.starts_with('T')))
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    async fn wait_for(&self, condition: impl FnMut(&Log) -> bool) -> Result<()> {
        let mut log = self.log.clone();
        let waited = tokio::time::timeout(PATIENCE, log.wait_for(condition)).await;
        match waited {
            // An error of the channel means that the reader died: its last message says that the log is closed.
            Ok(seen) => drop(seen.context("the reader of the log died")?),
            Err(_) => bail!(
                "{} kept us waiting for {} s:\n{}",
                self.name,
                PATIENCE.as_secs(),
                self.tail()
            ),
        }
        Ok(())
    }

    fn tail(&self) -> String {
        let log = self.log.borrow();
        let skipped = log.lines.len().saturating_sub(LOG_LINES_SHOWN);
        log.lines
            .iter()
            .skip(skipped)
            .map(|line| format!("  {line}\n"))
            .collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} wrote last:\n{}", self.name, self.tail());
        }
        if let Ok(Some(status)) = self.child.try_wait() {
            if std::thread::panicking() {
                let signal = status
                    .signal()
                    .map_or(String::new(), |signal| format!(" (signal {signal})"));
                eprintln!("--- {} had ended: {status}{signal}", self.name);
            }
            return;
        }
        // Both fail only for a child that is gone, which is what they are for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
