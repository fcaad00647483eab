//! Tells a person what is being done: numbered steps, each with its outcome and its time.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It did something; what.
    Done(String),
    /// It found everything in place; the text says what.
    Already(String),
}

impl Outcome {
    /// `what` was done if something `changed`, and else found.
    #[must_use]
    pub fn of(changed: bool, what: String) -> Self {
        if changed {
            Self::Done(what)
        } else {
            Self::Already(what)
        }
    }
}

/// Counts steps up to a known total and prints them on standard error.
#[derive(Debug)]
pub struct Steps {
    total: usize,
    number: usize,
    changed: usize,
    started: Instant,
}

impl Steps {
    /// Of `total` steps, none has run.
    #[must_use]
    pub fn new(total: usize) -> Self {
        Self {
            total,
            number: 0,
            changed: 0,
            started: Instant::now(),
        }
    }

    /// Runs one step. An error says which step it was.
    pub fn step(
        &mut self,
        title: &str,
        work: impl FnOnce(&mut Notes) -> Result<Outcome>,
    ) -> Result<()> {
        self.number += 1;
        let head = format!("[{:>2}/{}] {title}", self.number, self.total);
        eprint!("{head:<34}");
        let mut notes = Notes::new();
        let outcome = work(&mut notes).with_context(|| format!("step {title:?} failed"));
        let seconds = notes.started.elapsed().as_secs_f64();
        match outcome {
            Ok(Outcome::Done(what)) => {
                self.changed += 1;
                notes.end(&format!("{seconds:>6.1} s  {what}"));
                Ok(())
            }
            Ok(Outcome::Already(what)) => {
                notes.end(&format!("{:>8}  {what}", "-"));
                Ok(())
            }
            Err(error) => {
                notes.end(&format!("{seconds:>6.1} s  failed"));
                Err(error)
            }
        }
    }

    /// How many steps did something.
    #[must_use]
    pub fn changed(&self) -> usize {
        self.changed
    }

    /// Time since the first step.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Progress lines of a long step.
#[derive(Debug)]
pub struct Notes {
    started: Instant,
    last: Instant,
    said: bool,
    transient: bool,
}

impl Notes {
    /// For work outside of any numbered step.
    #[must_use]
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            started: now,
            last: now,
            said: false,
            transient: false,
        }
    }

    /// One line that stays.
    pub fn say(&mut self, text: &str) {
        self.break_line();
        eprintln!("        {text}");
        self.last = Instant::now();
    }

    /// Where the work stands. On a terminal it overwrites itself; elsewhere it is printed every 15 seconds.
    pub fn progress(&mut self, text: impl FnOnce() -> String) {
        let terminal = std::io::stderr().is_terminal();
        let pause = if terminal {
            Duration::from_millis(200)
        } else {
            Duration::from_secs(15)
        };
        if self.last.elapsed() < pause {
            return;
        }
        let seconds = self.started.elapsed().as_secs();
        let text = text();
        if terminal {
            if !self.said {
                eprintln!();
            }
            eprint!("\r\x1b[K        {text} ({seconds} s)");
            let _ = std::io::stderr().flush();
            self.said = true;
            self.transient = true;
            self.last = Instant::now();
        } else {
            self.say(&format!("{text} ({seconds} s)"));
        }
    }

    fn end(&mut self, text: &str) {
        if self.transient {
            eprint!("\r\x1b[K");
        }
        if self.said {
            eprint!("{:<34}", "");
        }
        eprintln!("{text}");
    }

    fn break_line(&mut self) {
        if self.transient {
            eprint!("\r\x1b[K");
            self.transient = false;
        } else if !self.said {
            eprintln!();
        }
        self.said = true;
    }
}

impl Default for Notes {
    fn default() -> Self {
        Self::new()
    }
}

/// Asks `ready` every 200 ms until it says yes, and gives up after `limit` with what it said last.
///
/// `ready` returns `Ok(())` or what is still missing.
pub fn wait_until(
    notes: &mut Notes,
    limit: Duration,
    mut ready: impl FnMut() -> Result<(), String>,
) -> Result<()> {
    let started = Instant::now();
    loop {
        let Err(missing) = ready() else { return Ok(()) };
        if started.elapsed() > limit {
            anyhow::bail!("not ready after {} s: {missing}", limit.as_secs());
        }
        notes.progress(|| missing);
        std::thread::sleep(Duration::from_millis(200));
    }
}
