//! Parts that a bare Kubernetes lacks and every cluster has: DNS, and a default StorageClass.
//!
//! The manifests are data, in `e2e/kubernetes/addons/`; `{{NAME}}` in them is filled in here.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::addresses::Addresses;
use super::image::{Archive, Built, Image};
use super::layout::{Layout, NODES};
use super::node::{BUSYBOX, volumes};
use super::tools::{Tools, data_dir};

/// The images of the addons.
#[derive(Debug)]
pub struct Images {
    coredns: Archive,
    local_path: Archive,
    busybox: Archive,
}

impl Images {
    /// Writes them below `folder`, those that are not there.
    pub fn write(tools: &Tools, folder: &Path) -> Result<Self> {
        let of_program = |name: &str| -> Result<Archive> {
            of_static_program(&format!("coord.dev/e2e/{name}"), &tools.program(name)?)?
                .write(folder)
        };
        Ok(Self {
            coredns: of_program("coredns")?,
            local_path: of_program("local-path-provisioner")?,
            busybox: busybox()?.write(folder)?,
        })
    }

    /// All of them; the first is the one without which no pod starts.
    #[must_use]
    pub fn all(&self) -> [&Archive; 3] {
        [&self.busybox, &self.coredns, &self.local_path]
    }
}

/// The manifests of all addons, as one YAML text for `kubectl apply`.
///
/// Errors: a file is missing, or one names something that is not filled in.
pub fn manifests(layout: &Layout, addresses: Addresses, images: &Images) -> Result<String> {
    let paths: Vec<_> = NODES
        .iter()
        .map(|node| {
            format!(
                r#"{{"node":"{node}","paths":["{}"]}}"#,
                volumes(layout, node).display()
            )
        })
        .collect();
    let values = [
        ("COREDNS_IMAGE", images.coredns.reference.clone()),
        ("LOCAL_PATH_IMAGE", images.local_path.reference.clone()),
        ("BUSYBOX_IMAGE", BUSYBOX.to_owned()),
        ("DNS_ADDRESS", addresses.dns_service().to_string()),
        ("NODE_PATHS", paths.join(",")),
    ];
    let mut all = String::new();
    for file in ["coredns.yaml", "local-path.yaml"] {
        let path = data_dir().join("addons").join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        all.push_str(&text);
        all.push_str("\n---\n");
    }
    for (name, value) in values {
        all = all.replace(&format!("{{{{{name}}}}}"), &value);
    }
    ensure!(
        !all.contains("{{"),
        "an addon's manifest has a placeholder that addons.rs does not fill in"
    );
    Ok(all)
}

/// The image under [`BUSYBOX`]: Debian's static busybox. It sleeps if it is not told otherwise.
fn busybox() -> Result<Built> {
    let mut image = Image::new(&["/bin/busybox", "sleep", "2147483647"]);
    image.file("/bin/busybox", fs::read("/bin/busybox")?, 0o755);
    for name in ["sh", "cat", "chmod", "ls", "mkdir", "rm", "sleep"] {
        image.link(&format!("/bin/{name}"), "busybox");
    }
    image.folder("/tmp");
    let (repository, tag) = BUSYBOX.rsplit_once(':').expect("the constant has a tag");
    Ok(image.build(repository, "")?.tagged(tag))
}

/// An image of one static program.
fn of_static_program(repository: &str, program: &Path) -> Result<Built> {
    let name = program
        .file_name()
        .context("a program has a name")?
        .to_string_lossy();
    let at = format!("/{name}");
    let mut image = Image::new(&[&at]);
    image.file(&at, fs::read(program)?, 0o755);
    image.folder("/tmp");
    image.build(repository, "")
}
