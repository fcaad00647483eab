//! Other people's clients as programs: built from source where they are Go, and run against a cluster.

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

/// Python with gRPC's C core, in an environment of its own, and the program of `e2e/clients/python` to run with it.
pub fn python_speed() -> Result<(PathBuf, PathBuf)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python");
    let environment = beside_tests()?.join("python");
    let python = environment.join("bin/python");
    let requirements = source.join("requirements.txt");
    let wanted = std::fs::read(&requirements)?;
    // Written last, so that what was broken off is made again.
    let stamp = environment.join("requirements.txt");
    if std::fs::read(&stamp).ok().as_ref() != Some(&wanted) {
        let mut make = Command::new("python3");
        ran(make.args(["-m", "venv", "--clear"]).arg(&environment))?;
        let mut install = Command::new(&python);
        install.args(["-m", "pip", "install", "--quiet", "--requirement"]);
        ran(install.arg(&requirements))?;
        std::fs::write(&stamp, wanted)?;
    }
    Ok((python, source.join("speed.py")))
}

/// The program of `e2e/clients/node`, beside what npm has installed for it.
pub fn node_speed() -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/node");
    let place = beside_tests()?.join("node");
    std::fs::create_dir_all(&place)?;
    for file in ["package.json", "package-lock.json", "speed.js"] {
        std::fs::copy(source.join(file), place.join(file))?;
    }
    let mut install = Command::new("npm");
    ran(install.args(["ci", "--silent"]).current_dir(&place))?;
    Ok(place.join("speed.js"))
}

/// The program of `e2e/clients/java`, and the path of what Maven has copied for it.
pub fn java_speed() -> Result<(PathBuf, String)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/java");
    let libraries = beside_tests()?.join("java");
    let mut copy = Command::new("mvn");
    copy.args(["--quiet", "--batch-mode", "dependency:copy-dependencies"]);
    copy.arg(format!("-DoutputDirectory={}", libraries.display()));
    ran(copy.current_dir(&source))?;
    let every = format!("{}/*", libraries.display());
    Ok((source.join("Speed.java"), every))
}

fn ran(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}:\n{}",
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
