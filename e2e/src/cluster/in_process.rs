//! One member for tests that need no more.
//!
//! A program stands in until the server's composition root can be started on a thread of the test.

use std::path::Path;

use anyhow::Result;

use super::process::Process;

/// A running member. Dropping it ends it as a crash would.
pub struct Thread(Process);

impl Thread {
    /// Starts a member with the words of a command line.
    pub fn spawn(name: &str, words: &[String]) -> Result<Self> {
        let program = super::process::server_program()?;
        Ok(Self(Process::spawn(Path::new(&program), name, words)?))
    }

    /// Waits until it serves requests.
    pub async fn ready(&mut self) -> Result<()> {
        self.0.ready().await
    }

    /// Ends it where it stands.
    pub async fn kill(self) -> Result<()> {
        self.0.kill().await
    }

    /// Asks it to stop and waits until it has.
    pub async fn stop(self) -> Result<()> {
        self.0.stop().await.map(|_| ())
    }

    /// Waits for its end and says why it came.
    pub async fn ended(self) -> Result<String> {
        Ok(self.0.ended().await?.1)
    }
}
