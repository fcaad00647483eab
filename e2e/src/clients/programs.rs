//! Other people's clients as programs: built, or given the libraries that they need, and run against a cluster.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};

/// The program of `e2e/clients/go`, built by Go; what has not changed comes from Go's cache.
pub fn go_claims() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&BUILT, || {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/go");
        let program = beside_tests()?.join("go-claims");
        go_build(&source, &program, ".")?;
        Ok(program)
    })
}

/// The program of `e2e/clients/go/speed`, built likewise.
pub fn go_speed() -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/go");
    let program = beside_tests()?.join("go-speed");
    go_build(&source, &program, "./speed")?;
    Ok(program)
}

/// The words of a run of etcdctl: what it printed, and of what went wrong only its own lines; the client library logs
/// beside them, as JSON.
pub fn etcdctl_said(output: &std::process::Output) -> String {
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    for line in errors.lines().filter(|line| !line.starts_with('{')) {
        said.push_str(line);
        said.push('\n');
    }
    said
}

/// A program of `e2e/clients/python`, to be run with what its `requirements.txt` names, in an environment of its own.
pub fn python(program: &str) -> Result<Command> {
    let source = sources("python");
    let environment = beside_tests()?.join("python");
    let python = environment.join("bin/python");
    installed(&source, &["requirements.txt"], &environment, || {
        let mut make = Command::new("python3");
        ran(make.args(["-m", "venv", "--clear"]).arg(&environment))?;
        let mut install = Command::new(&python);
        install.args(["-m", "pip", "install", "--quiet", "--requirement"]);
        ran(install.arg(source.join("requirements.txt")))
    })?;
    let mut command = Command::new(python);
    command.arg(source.join(program));
    Ok(command)
}

/// A program of `e2e/clients/node`, to be run with what npm has installed for it.
pub fn node(program: &str) -> Result<Command> {
    let source = sources("node");
    let place = beside_tests()?.join("node");
    let files = ["package.json", "package-lock.json"];
    installed(&source, &files, &place, || {
        std::fs::create_dir_all(&place)?;
        for file in files {
            std::fs::copy(source.join(file), place.join(file))?;
        }
        let mut install = Command::new("npm");
        ran(install.args(["ci", "--silent"]).current_dir(&place))
    })?;
    let mut command = Command::new("node");
    command.env("NODE_PATH", place.join("node_modules"));
    command.arg(source.join(program));
    Ok(command)
}

/// A program of `e2e/clients/java`, to be run with what Maven has copied for it.
pub fn java(program: &str) -> Result<Command> {
    let source = sources("java");
    let libraries = beside_tests()?.join("java");
    installed(&source, &["pom.xml"], &libraries, || {
        // Of another version's libraries none may stay.
        if libraries.exists() {
            std::fs::remove_dir_all(&libraries)?;
        }
        let mut copy = Command::new("mvn");
        copy.args(["--quiet", "--batch-mode", "dependency:copy-dependencies"]);
        copy.arg(format!("-DoutputDirectory={}", libraries.display()));
        ran(copy.current_dir(&source))
    })?;
    let mut command = Command::new("java");
    command.arg("-cp").arg(format!("{}/*", libraries.display()));
    command.arg(source.join(program));
    Ok(command)
}

/// The compiler of protobuf definitions that `e2e/clients/rust` is built with: written in Rust, so cargo can bring it.
const PROTOX: &str = "protox@0.10.0";

/// The program of `e2e/clients/rust`, which is no part of the workspace.
pub fn rust() -> Result<Command> {
    let source = sources("rust");
    let place = beside_tests()?.join("rust");
    let cargo = || {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&source);
        cargo
    };
    installed(&source, &["Cargo.lock"], &place, || {
        let mut install = cargo();
        install.args(["install", "--quiet", "--locked", "--debug", PROTOX]);
        install.args(["--features", "bin", "--root"]).arg(&place);
        ran(install.arg("--target-dir").arg(place.join("protox")))
    })?;
    let mut build = cargo();
    build.args(["build", "--quiet", "--locked"]);
    build.env("PROTOC", place.join("bin/protox"));
    ran(build.arg("--target-dir").arg(place.join("target")))?;
    Ok(Command::new(place.join("target/debug/etcd-client-session")))
}

/// Whether the operating system finds these programs.
#[must_use]
pub fn are_there(programs: &[&str]) -> bool {
    programs.iter().all(|program| {
        let found = Command::new(program).arg("--version").output();
        found.is_ok_and(|output| output.status.success())
    })
}

fn sources(language: &str) -> PathBuf {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    clients.join(language)
}

/// Runs `install`, which fills `place`, unless it has run for the same content of these files of `source`.
fn installed(
    source: &Path,
    files: &[&str],
    place: &Path,
    install: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let mut wanted = Vec::new();
    for file in files {
        wanted.extend(std::fs::read(source.join(file))?);
    }
    // Written last, so that what was broken off is made again.
    let stamp = place.join("installed-for");
    if std::fs::read(&stamp).ok().as_ref() == Some(&wanted) {
        return Ok(());
    }
    let name = source.display();
    install().with_context(|| format!("{name}: its libraries come from a registry, once"))?;
    std::fs::write(&stamp, wanted)?;
    Ok(())
}

fn ran(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// etcdctl: `COORD_ETCDCTL`, or the one that belongs to the etcd of the local Kubernetes, built by Go.
pub fn etcdctl() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match std::env::var_os("COORD_ETCDCTL") {
        Some(path) => Ok(path.into()),
        None => once(&BUILT, || of_etcd("etcdctl", "etcdctl")),
    }
}

/// etcdutl of the same etcd, built by Go.
pub fn etcdutl() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&BUILT, || of_etcd("etcdutl", "etcdutl"))
}

/// That etcd itself, built by Go: the judge of what ours should say.
pub fn etcd() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&BUILT, || of_etcd("etcd", "server"))
}

fn of_etcd(name: &str, package: &str) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes/etcd");
    let program = beside_tests()?.join(name);
    go_build(&source, &program, &format!("go.etcd.io/etcd/{package}/v3"))?;
    Ok(program)
}

fn once(
    built: &OnceLock<Result<PathBuf, String>>,
    build: impl FnOnce() -> Result<PathBuf>,
) -> Result<PathBuf> {
    built
        .get_or_init(|| build().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(|error| anyhow!(error))
}

/// A folder for built programs beside this test's own: TARGET/PROFILE/clients.
fn beside_tests() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let profile = test
        .parent()
        .and_then(Path::parent)
        .context("a test lies in target/PROFILE/deps")?;
    let folder = profile.join("clients");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn go_build(module: &Path, program: &Path, package: &str) -> Result<()> {
    let output = Command::new("go")
        .args(["build", "-mod=readonly", "-trimpath", "-o"])
        .arg(program)
        .arg(package)
        .current_dir(module)
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .output()
        .context("cannot run Go: install Go 1.26 or newer")?;
    ensure!(
        output.status.success(),
        "go build in {}:\n{}",
        module.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
