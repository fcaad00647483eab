//! The lives of a cluster's members: started, killed, paused, stopped, replaced, and what each has said.

use std::process::ExitStatus;

use anyhow::{Context, Result, bail, ensure};

use super::in_process::Thread;
use super::process::{self, Process};
use super::{Cluster, Kind, Running};

impl Cluster {
    /// Starts a stopped member and waits until it serves requests.
    pub async fn restart(&mut self, index: usize) -> Result<()> {
        self.spawn(index)?;
        self.ready(index).await
    }

    /// Starts a stopped member without waiting for it: with too few members up, none gets ready.
    pub fn spawn(&mut self, index: usize) -> Result<()> {
        let kind = self.kind;
        let member = &mut self.members[index];
        ensure!(member.running.is_none(), "{} runs already", member.name);
        let running = match (kind, process::oracle()) {
            (Kind::InProcess, None) => Running::Thread(Thread::spawn(&member.name, &member.words)?),
            (Kind::InProcess, Some(etcd)) => {
                Running::Process(Process::spawn(&etcd, &member.name, &member.words)?)
            }
            (Kind::Processes(_) | Kind::Networked(_), _) => {
                let program = match &self.program.path {
                    Some(path) => path.clone(),
                    None => process::server_program()?,
                };
                let namespace = self.network.as_ref();
                let namespace = namespace.map(|network| network.namespace(member.address.ip()));
                Running::Process(Process::spawn_in(
                    namespace.as_deref(),
                    &program,
                    &member.name,
                    &member.words,
                    &self.program.environment,
                )?)
            }
        };
        member.running = Some(running);
        Ok(())
    }

    /// Waits until a member serves requests.
    pub async fn ready(&mut self, index: usize) -> Result<()> {
        match self.running(index)? {
            Running::Process(process) => process.ready().await,
            Running::Thread(thread) => thread.ready().await,
        }
    }

    /// Ends a member as a crash does: SIGKILL for a program; a thread's tasks are dropped where they stand.
    pub async fn kill(&mut self, index: usize) -> Result<()> {
        match self.take(index)? {
            Running::Process(process) => process.kill().await,
            Running::Thread(thread) => thread.kill().await,
        }
    }

    /// Kills several members, so that none of them sees another one end first and acts on it.
    pub async fn kill_all(&mut self, members: &[usize]) -> Result<()> {
        for member in members {
            if let Ok(process) = self.process(*member) {
                process.begin_kill()?;
            }
        }
        for member in members {
            self.kill(*member).await?;
        }
        Ok(())
    }

    /// Kills a member's process and starts the next one in the same moment, while the old one may still be ending.
    pub async fn replace(&mut self, index: usize) -> Result<()> {
        let Running::Process(mut old) = self.take(index)? else {
            bail!("a member that is a thread has no process");
        };
        old.begin_kill()?;
        self.spawn(index)?;
        old.kill().await
    }

    /// Asks a member to stop (SIGTERM) and waits until it has; says how a program ended.
    pub async fn stop(&mut self, index: usize) -> Result<Option<ExitStatus>> {
        match self.take(index)? {
            Running::Process(process) => process.stop().await.map(Some),
            Running::Thread(thread) => thread.stop().await.map(|()| None),
        }
    }

    /// Waits until a member has ended by itself; says how a program ended, and the last lines it wrote.
    pub async fn ended(&mut self, index: usize) -> Result<(Option<ExitStatus>, String)> {
        match self.take(index)? {
            Running::Process(process) => {
                let (status, said) = process.ended().await?;
                Ok((Some(status), said))
            }
            Running::Thread(thread) => Ok((None, thread.ended().await?)),
        }
    }

    /// The process of a member.
    pub fn process_id(&mut self, index: usize) -> Result<u32> {
        Ok(self.process(index)?.id())
    }

    /// Freezes a member's process (SIGSTOP).
    pub fn pause(&mut self, index: usize) -> Result<()> {
        self.process(index)?.pause()
    }

    /// Whether a member's process stands still.
    pub fn is_paused(&mut self, index: usize) -> Result<bool> {
        self.process(index)?.is_paused()
    }

    /// Lets a frozen member go on (SIGCONT).
    pub fn resume(&mut self, index: usize) -> Result<()> {
        self.process(index)?.resume()
    }

    /// Whether a member runs: it was started, and has not ended by itself.
    #[must_use]
    pub fn runs(&self, index: usize) -> bool {
        match &self.members[index].running {
            Some(Running::Process(process)) => !process.has_ended(),
            Some(Running::Thread(_)) => true,
            None => false,
        }
    }

    /// The members that were started and neither stopped nor killed since.
    #[must_use]
    pub fn present(&self) -> Vec<usize> {
        (0..self.len())
            .filter(|index| self.members[*index].running.is_some())
            .collect()
    }

    /// Gives a member up: it is not waited for any more, and killed if it still runs.
    pub fn leave(&mut self, index: usize) {
        self.members[index].running = None;
    }

    /// Whether a member has written a line with this text since it was started.
    #[must_use]
    pub fn has_said(&self, index: usize, text: &str) -> bool {
        match &self.members[index].running {
            Some(Running::Process(process)) => process.has_said(text),
            Some(Running::Thread(_)) | None => false,
        }
    }

    /// The last lines that a member wrote since it was started.
    #[must_use]
    pub fn lines(&self, index: usize) -> Vec<String> {
        match &self.members[index].running {
            Some(Running::Process(process)) => process.lines(),
            Some(Running::Thread(_)) | None => Vec::new(),
        }
    }

    fn running(&mut self, index: usize) -> Result<&mut Running> {
        let member = &mut self.members[index];
        member
            .running
            .as_mut()
            .with_context(|| format!("{} does not run", member.name))
    }

    fn take(&mut self, index: usize) -> Result<Running> {
        let member = &mut self.members[index];
        member
            .running
            .take()
            .with_context(|| format!("{} does not run", member.name))
    }

    fn process(&mut self, index: usize) -> Result<&mut Process> {
        match self.running(index)? {
            Running::Process(process) => Ok(process),
            Running::Thread(_) => bail!("a member that is a thread has no process"),
        }
    }
}
