//! Coord's own binaries as container images, for `make image`.
//!
//! An image holds the binary, the shared libraries it names, CA certificates and a non-root user. No shell, no package
//! manager: nothing to exec into and nothing to patch. The `Containerfile`s say the same for people with an engine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::local_kubernetes::image::{Archive, Built, Image};
use crate::local_kubernetes::instance::images_dir;
use crate::local_kubernetes::run::{cmd, run};
use crate::local_kubernetes::tools::workspace;

/// The programs that become images; the name of the binary is the name of the image.
const PROGRAMS: [&str; 2] = ["coord-server", "coord-operator"];

/// `UID:GID`; the pods' security contexts name it too.
const USER: &str = "65532:65532";

/// The images of one build.
#[derive(Debug, Clone)]
pub struct Images {
    /// `coord.dev/coord-server:TAG`.
    pub server: Archive,
    /// `coord.dev/coord-operator:TAG`.
    pub operator: Archive,
    /// The server that is in that image, as a program of this host.
    server_program: PathBuf,
}

/// Builds the binaries with cargo's `profile` ("dev", "release") and writes their images to `target/images`.
///
/// The tag is the version and a hash of the content: a changed binary is another image, and pods roll.
pub fn build_images(profile: &str) -> Result<Images> {
    let folder = build_binaries(profile)?;
    let mut archives = Vec::new();
    for program in PROGRAMS {
        archives.push(write_image(&folder.join(program), &images_dir())?);
    }
    let [server, operator] = archives
        .try_into()
        .ok()
        .context("one archive per program")?;
    Ok(Images {
        server,
        operator,
        server_program: folder.join("coord-server"),
    })
}

impl Images {
    /// The same server in an image whose tag says something else, such as another version.
    pub fn server_tagged(&self, tag: &str) -> Result<Archive> {
        // Apart: one folder holds one tag of a name.
        image_of(&self.server_program)?
            .tagged(tag)
            .write(&images_dir().join("tagged"))
    }
}

/// Builds and returns the folder of the binaries.
fn build_binaries(profile: &str) -> Result<PathBuf> {
    let mut cargo = cmd([std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())]);
    cargo
        .current_dir(workspace())
        .args(["build", "--profile", profile]);
    // Together with e2e, as make builds it: another selection has other features, and would build everything again.
    for package in PROGRAMS.into_iter().chain(["coord-e2e"]) {
        cargo.args(["--package", package]);
    }
    let status = cargo.status().context("start cargo")?;
    ensure!(
        status.success(),
        "cargo build failed ({status}); its messages are above"
    );
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace().join("target"), PathBuf::from);
    Ok(target.join(if profile == "dev" { "debug" } else { profile }))
}

/// The image of one binary, below `folder`.
pub fn write_image(binary: &Path, folder: &Path) -> Result<Archive> {
    image_of(binary)?.write(folder)
}

fn image_of(binary: &Path) -> Result<Built> {
    let name = binary
        .file_name()
        .context("a binary has a name")?
        .to_string_lossy()
        .into_owned();
    // Names of functions stay, for backtraces; line tables would be most of the image.
    let scratch = tempfile::tempdir()?;
    let stripped = scratch.path().join(&name);
    run(cmd(["strip", "--strip-debug", "-o"])
        .arg(&stripped)
        .arg(binary))?;

    let at = format!("/usr/bin/{name}");
    let mut image = Image::new(&[&at]);
    image.user(USER);
    image.file(&at, fs::read(&stripped)?, 0o755);
    for library in shared_libraries(binary)? {
        image.file(&library, fs::read(&library)?, 0o755);
    }
    let certificates = "/etc/ssl/certs/ca-certificates.crt";
    if Path::new(certificates).exists() {
        image.file(certificates, fs::read(certificates)?, 0o644);
        image.env("SSL_CERT_FILE", certificates);
    }
    image.file(
        "/etc/passwd",
        b"coord:x:65532:65532:coord:/:/sbin/nologin\n".to_vec(),
        0o644,
    );
    image.file("/etc/group", b"coord:x:65532:\n".to_vec(), 0o644);
    image.folder("/tmp");
    image.build(&format!("coord.dev/{name}"), env!("CARGO_PKG_VERSION"))
}

/// The files that the loader maps for `binary`, itself included, at the paths where the binary looks for them.
fn shared_libraries(binary: &Path) -> Result<Vec<String>> {
    let listed = cmd(["ldd"]).arg(binary).output().context("start ldd")?;
    let [listed, said] =
        [listed.stdout, listed.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    ensure!(
        !listed.is_empty() || said.contains("not a dynamic executable"),
        "ldd {}: {said}",
        binary.display()
    );
    let mut files = Vec::new();
    for line in listed.lines() {
        ensure!(
            !line.contains("not found"),
            "{} needs a library that is missing: {}",
            binary.display(),
            line.trim()
        );
        // "libc.so.6 => /lib/.../libc.so.6 (0x..)" and "/lib64/ld-linux-x86-64.so.2 (0x..)"; the vdso has no file.
        let after_arrow = line.split("=>").last().unwrap_or(line);
        if let Some(file) = after_arrow
            .split_whitespace()
            .next()
            .filter(|word| word.starts_with('/'))
        {
            files.push(file.to_owned());
        }
    }
    Ok(files)
}
