//! The programs of Kubernetes and etcd, built from the Go modules of `e2e/kubernetes/` and kept per version.
//!
//! A finished build lives in `target/kubernetes/tools/MODULE-HASH`, where the hash covers `go.mod` and `go.sum`: another
//! version is another folder, and an unchanged one costs a look. It is built beside that folder and renamed when whole.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use super::run::{cmd, is_installed, run, tail};
use super::steps::{Notes, Outcome};

/// The Go modules below `e2e/kubernetes/`, quickest first. Apart, because their dependencies do not agree.
const MODULES: [&str; 3] = ["etcd", "local-path", "tools"];

/// The folder of this crate's data: Go modules and addon manifests.
#[must_use]
pub fn data_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes")
}

/// The folder of the workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("e2e is a folder of the workspace")
        .to_path_buf()
}

/// Where finished builds are kept: `COORD_TOOLS_DIR`, or the workspace's `target/kubernetes/tools`.
#[must_use]
pub fn tools_dir() -> PathBuf {
    match std::env::var_os("COORD_TOOLS_DIR") {
        Some(dir) => dir.into(),
        None => workspace().join("target/kubernetes/tools"),
    }
}

/// Finished builds of all modules.
#[derive(Debug, Clone)]
pub struct Tools {
    folders: Vec<PathBuf>,
}

impl Tools {
    /// Builds what is missing, which takes minutes the first time, and returns where everything is.
    ///
    /// Two processes at once build one after the other. Errors: no Go of 1.26 or newer, or the build failed.
    pub fn build(notes: &mut Notes) -> Result<(Self, Outcome)> {
        let kept = tools_dir();
        fs::create_dir_all(&kept).with_context(|| format!("create {}", kept.display()))?;
        let lock = File::open(&kept)?;
        lock.lock().context("wait for another build")?;
        let mut built = Vec::new();
        let mut folders = Vec::new();
        for name in MODULES {
            let module = Module::read(name)?;
            let folder = kept.join(format!("{name}-{}", module.hash));
            if !folder.exists() {
                check_go()?;
                module.build(&folder, notes)?;
                built.push(module.version);
            }
            folders.push(folder);
        }
        let outcome = match built.as_slice() {
            [] => Outcome::Already("built before".into()),
            built => Outcome::Done(format!("built {}", built.join(", "))),
        };
        Ok((Self { folders }, outcome))
    }

    /// Where a program is.
    ///
    /// Errors: no module builds a program of this name.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        self.programs()?
            .into_iter()
            .find(|path| path.file_name().is_some_and(|file| file == name))
            .with_context(|| format!("no module of e2e/kubernetes builds {name}"))
    }

    /// All programs.
    pub fn programs(&self) -> Result<Vec<PathBuf>> {
        let mut all = Vec::new();
        for folder in &self.folders {
            for entry in fs::read_dir(folder)? {
                all.push(entry?.path());
            }
        }
        all.sort();
        Ok(all)
    }

    /// Names these builds: changes exactly when one of the programs does.
    #[must_use]
    pub fn version(&self) -> String {
        let names = self.folders.iter().filter_map(|folder| folder.file_name());
        names
            .map(|name| name.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// One Go module with its `tool` lines.
struct Module {
    name: &'static str,
    folder: PathBuf,
    hash: String,
    /// The version of its main requirement, for people and for the linker.
    version: String,
}

impl Module {
    fn read(name: &'static str) -> Result<Self> {
        let folder = data_dir().join(name);
        let [go_mod, go_sum] = ["go.mod", "go.sum"].map(|file| {
            let path = folder.join(file);
            fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
        });
        let (go_mod, go_sum) = (go_mod?, go_sum?);
        let digest = Sha256::new()
            .chain_update(&go_mod)
            .chain_update(go_sum)
            .finalize();
        let hash = digest
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let main = match name {
            "tools" => "k8s.io/kubernetes",
            "etcd" => "go.etcd.io/etcd/server/v3",
            _ => "github.com/rancher/local-path-provisioner",
        };
        let version = required(&go_mod, main)
            .with_context(|| format!("{name}/go.mod does not require {main}"))?;
        Ok(Self {
            name,
            folder,
            hash,
            version: format!("{main} {version}"),
        })
    }

    fn build(&self, folder: &Path, notes: &mut Notes) -> Result<()> {
        // The same folder each time: an interrupted build left programs there that go then finds up to date.
        let unfinished = folder.with_file_name(format!(".unfinished-{}", self.name));
        fs::create_dir_all(&unfinished)?;
        notes.say(&format!("building {} from source", self.version));
        let total = run(self.go().args(["list", "-deps", "tool"]))?
            .lines()
            .count();

        let (_, version) = self
            .version
            .split_once(' ')
            .expect("written with a space above");
        let mut parts = version.trim_start_matches('v').split('.');
        let (major, minor) = (parts.next().unwrap_or("0"), parts.next().unwrap_or("0"));
        // Without these kubelet and API server report v0.0.0, and kubectl warns about the skew.
        let stamp = "-X k8s.io/component-base/version";
        let link = format!(
            "-s -w {stamp}.gitVersion={version} {stamp}.gitMajor={major} {stamp}.gitMinor={minor}"
        );
        let mut child = self
            .go()
            .args([
                "build",
                "-v",
                "-mod=readonly",
                "-trimpath",
                "-ldflags",
                &link,
                "-o",
            ])
            .arg(&unfinished)
            .arg("tool")
            .stderr(Stdio::piped())
            .spawn()?;
        // -v prints each package once it is compiled; those in Go's cache are not printed. A thread reads, so that
        // progress goes on while the linker is silent.
        let stderr = child.stderr.take().expect("stderr was piped above");
        let (lines, printed) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // Nobody listens any more: the build is being given up.
                let _ = lines.send(line);
            }
        });
        let mut said = String::new();
        let mut compiled = 0;
        loop {
            match printed.recv_timeout(Duration::from_secs(1)) {
                Ok(line) => {
                    compiled += 1;
                    said = tail(&format!("{said}\n{line}"), 20);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
            notes.progress(|| format!("{}: {compiled} of at most {total} packages", self.name));
        }
        reader
            .join()
            .ok()
            .context("the thread that reads go's messages panicked")?;
        let status = child.wait()?;
        if !status.success() {
            bail!("go build in {}: {status}\n{}", self.folder.display(), said);
        }
        if self.name == "etcd" {
            fs::rename(unfinished.join("server"), unfinished.join("etcd"))?;
        }
        fs::rename(&unfinished, folder)?;
        Ok(())
    }

    fn go(&self) -> std::process::Command {
        let mut go = cmd(["go"]);
        go.current_dir(&self.folder)
            .env("CGO_ENABLED", "0")
            .env("GOWORK", "off");
        go
    }
}

/// The version that a go.mod requires of `module`.
fn required<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let mut words = line
            .trim()
            .trim_start_matches("require ")
            .split_whitespace();
        (words.next() == Some(module))
            .then(|| words.next())
            .flatten()
            .filter(|word| word.starts_with('v'))
    })
}

fn check_go() -> Result<()> {
    ensure!(
        is_installed("go"),
        "Go is missing: install Go 1.26 or newer (Kubernetes is built from source)"
    );
    let version = run(&mut cmd(["go", "env", "GOVERSION"]))?;
    let mut parts = version.trim().trim_start_matches("go").split('.');
    let mut number = || {
        parts
            .next()
            .and_then(|part| part.parse::<u32>().ok())
            .unwrap_or(0)
    };
    let (major, minor) = (number(), number());
    ensure!(
        (major, minor) >= (1, 26),
        "Go {major}.{minor} is too old: install Go 1.26 or newer (Kubernetes is built from source)"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_pins_its_main_requirement() {
        for name in MODULES {
            let module = Module::read(name).unwrap();
            assert_eq!(module.hash.len(), 16);
            assert!(module.version.contains(" v"), "{}", module.version);
        }
    }

    #[test]
    fn tool_and_replace_lines_are_not_requirements() {
        let go_mod = "tool a.b/c/cmd/d\nrequire a.b/c v1.2.3\nreplace a.b/e => a.b/e v0.1.0\n";
        assert_eq!(required(go_mod, "a.b/c"), Some("v1.2.3"));
        assert_eq!(required(go_mod, "a.b/e"), None);
    }
}
