//! Container images without a container engine: writes archives and imports them into nodes.
//!
//! An archive is an OCI image layout that is a Docker archive too, so `ctr images import`, `docker load`, `podman load`
//! and `kind load image-archive` all take it. The same input always gives the same bytes.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::node::Node;
use super::run::{cmd, run, sh};

/// The contents of an image. One layer.
#[derive(Debug, Clone, Default)]
pub struct Image {
    entries: Vec<(String, Entry)>,
    entrypoint: Vec<String>,
    user: String,
    env: Vec<String>,
}

#[derive(Debug, Clone)]
enum Entry {
    Folder,
    File { content: Vec<u8>, mode: u32 },
    Link { target: String },
}

impl Image {
    /// An empty image that runs `entrypoint` as root.
    #[must_use]
    pub fn new(entrypoint: &[&str]) -> Self {
        let entrypoint = entrypoint.iter().map(|word| (*word).to_owned()).collect();
        Self {
            entrypoint,
            ..Self::default()
        }
    }

    /// Runs as `user`, a `UID:GID`.
    pub fn user(&mut self, user: &str) {
        user.clone_into(&mut self.user);
    }

    /// Sets an environment variable.
    pub fn env(&mut self, name: &str, value: &str) {
        self.env.push(format!("{name}={value}"));
    }

    /// Adds a file, and the folders above it. `path` is absolute.
    pub fn file(&mut self, path: &str, content: Vec<u8>, mode: u32) {
        self.add(path, Entry::File { content, mode });
    }

    /// Adds a symbolic link, and the folders above it. `path` is absolute.
    pub fn link(&mut self, path: &str, target: &str) {
        self.add(
            path,
            Entry::Link {
                target: target.to_owned(),
            },
        );
    }

    /// Adds a folder that everybody may write to, as `/tmp` is.
    pub fn folder(&mut self, path: &str) {
        self.add(path, Entry::Folder);
    }

    fn add(&mut self, path: &str, entry: Entry) {
        let path = path.trim_start_matches('/');
        if !self.entries.iter().any(|(have, _)| have == path) {
            self.entries.push((path.to_owned(), entry));
        }
    }

    /// The layer: a tar without times, owners or order of its own.
    fn layer(&self) -> Result<Vec<u8>> {
        let mut entries: Vec<_> = self
            .entries
            .iter()
            .map(|(path, entry)| (path.clone(), Some(entry)))
            .collect();
        for (path, _) in &self.entries {
            for parent in Path::new(path)
                .ancestors()
                .skip(1)
                .filter(|path| *path != Path::new(""))
            {
                entries.push((parent.display().to_string(), None));
            }
        }
        // A folder someone asked for (Some) goes before the same one as somebody's parent (None), which is dropped.
        entries.sort_by(|a, b| (&a.0, a.1.is_none()).cmp(&(&b.0, b.1.is_none())));
        entries.dedup_by(|a, b| a.0 == b.0);

        let mut tar = tar::Builder::new(Vec::new());
        for (path, entry) in entries {
            let mut header = tar::Header::new_gnu();
            let (kind, mode, content): (_, _, &[u8]) = match entry {
                None => (tar::EntryType::Directory, 0o755, &[]),
                Some(Entry::Folder) => (tar::EntryType::Directory, 0o1777, &[]),
                Some(Entry::File { content, mode }) => (tar::EntryType::Regular, *mode, content),
                Some(Entry::Link { target }) => {
                    header.set_link_name(target)?;
                    (tar::EntryType::Symlink, 0o777, &[])
                }
            };
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content)?;
        }
        Ok(tar.into_inner()?)
    }

    /// Builds the image; its tag is `version` and 12 digits of its content's hash, joined by `-`.
    pub fn build(&self, repository: &str, version: &str) -> Result<Built> {
        let layer = self.layer()?;
        let diff_id = digest(&layer);
        let config = serde_json::to_vec(&json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {"Entrypoint": self.entrypoint, "User": self.user, "Env": self.env},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created_by": "coord-e2e image"}],
        }))?;
        let hash = digest(&config);
        let hash = &hash["sha256:".len()..][..12];
        Ok(Built {
            repository: repository.to_owned(),
            tag: if version.is_empty() {
                hash.to_owned()
            } else {
                format!("{version}-{hash}")
            },
            layer,
            config,
        })
    }
}

/// An image in memory, ready to be written.
#[derive(Debug)]
pub struct Built {
    /// Its name without the tag.
    pub repository: String,
    /// Changes whenever the content does.
    pub tag: String,
    layer: Vec<u8>,
    config: Vec<u8>,
}

impl Built {
    /// The same image under another tag.
    #[must_use]
    pub fn tagged(mut self, tag: &str) -> Self {
        tag.clone_into(&mut self.tag);
        self
    }

    /// Writes it to `folder/NAME-TAG.tar`, unless that is there, in place of those with other tags.
    pub fn write(&self, folder: &Path) -> Result<Archive> {
        let short = self
            .repository
            .rsplit('/')
            .next()
            .unwrap_or(&self.repository);
        let archive = Archive {
            reference: format!("{}:{}", self.repository, self.tag),
            image_id: digest(&self.config),
            file: folder.join(format!("{short}-{}.tar", self.tag)),
        };
        let is_there = archive.id_file().exists()
            && fs::read_to_string(archive.id_file())? == archive.image_id
            && archive.file.exists();
        if !is_there {
            fs::create_dir_all(folder)?;
            remove_archives(folder, &format!("{short}-"))?;
            let unfinished = archive.file.with_extension("unfinished");
            self.write_tar(&archive.reference, &unfinished)
                .with_context(|| format!("write {}", unfinished.display()))?;
            fs::rename(&unfinished, &archive.file)?;
            fs::write(archive.id_file(), &archive.image_id)?;
        }
        Ok(archive)
    }

    fn write_tar(&self, reference: &str, path: &Path) -> Result<()> {
        let descriptor = |media: &str, bytes: &[u8]| {
            json!({
                "mediaType": format!("application/vnd.oci.image.{media}"),
                "digest": digest(bytes),
                "size": bytes.len(),
            })
        };
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", &self.config),
            "layers": [descriptor("layer.v1.tar", &self.layer)],
        }))?;
        let mut listed = descriptor("manifest.v1+json", &manifest);
        listed["annotations"] = json!({
            "io.containerd.image.name": reference,
            "org.opencontainers.image.ref.name": self.tag,
        });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [listed],
        });
        let docker = json!([{
            "Config": blob(&self.config),
            "RepoTags": [reference],
            "Layers": [blob(&self.layer)],
        }]);
        let json = |value: &Value| serde_json::to_vec(value);
        let mut files = vec![
            (
                "oci-layout".to_owned(),
                json(&json!({"imageLayoutVersion": "1.0.0"}))?,
            ),
            ("index.json".to_owned(), json(&index)?),
            ("manifest.json".to_owned(), json(&docker)?),
        ];
        files.push((blob(&manifest), manifest));
        let big = [&self.config, &self.layer].map(|bytes| (blob(bytes), bytes.as_slice()));

        let mut tar = tar::Builder::new(BufWriter::new(File::create(path)?));
        let small = files
            .iter()
            .map(|(path, bytes)| (path.clone(), bytes.as_slice()));
        for (path, bytes) in small.chain(big) {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, path, bytes)?;
        }
        tar.into_inner()?.flush()?;
        Ok(())
    }
}

/// Removes the archives whose names begin with `start`: each build of a changed program would otherwise leave one.
fn remove_archives(folder: &Path, start: &str) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(start) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// An image in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// `REPOSITORY:TAG`, the name it is loaded under.
    pub reference: String,
    /// The digest of its configuration, which is Kubernetes' image id.
    pub image_id: String,
    /// Where it is.
    pub file: PathBuf,
}

impl Archive {
    /// Its name without the tag, and the tag.
    #[must_use]
    pub fn parts(&self) -> (&str, &str) {
        self.reference
            .rsplit_once(':')
            .unwrap_or((&self.reference, "latest"))
    }

    fn id_file(&self) -> PathBuf {
        self.file.with_extension("id")
    }
}

/// Imports an archive into a node's container runtime, unless it has this very image. Returns true if it had not.
pub fn import(node: &Node, archive: &Archive) -> Result<bool> {
    let socket = node.containerd_socket().display().to_string();
    let ctr = format!("ctr --address {socket} --namespace k8s.io");
    // The label says which image went under this name: a tag that is not made of the content may be moved.
    let label = format!("coord.dev/image-id={}", archive.image_id);
    let have = sh(&format!("{ctr} images list"))?;
    let is_there = have.lines().any(|line| {
        line.split_whitespace().next() == Some(archive.reference.as_str()) && line.contains(&label)
    });
    if is_there {
        return Ok(false);
    }
    run(cmd(ctr.split(' '))
        .args(["images", "import"])
        .arg(&archive.file))?;
    sh(&format!("{ctr} images label {} {label}", archive.reference))?;
    Ok(true)
}

/// The processor's name in an image's configuration.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn digest(bytes: &[u8]) -> String {
    let hash: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hash}")
}

fn blob(bytes: &[u8]) -> String {
    digest(bytes).replace("sha256:", "blobs/sha256/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(content: &str) -> Image {
        let mut image = Image::new(&["/bin/a"]);
        image.file("/bin/a", content.into(), 0o755);
        image.folder("/tmp");
        image
    }

    #[test]
    fn a_tag_follows_the_content_and_nothing_else() {
        let tag = |content| image(content).build("x/y", "1.0").unwrap().tag;
        assert_eq!(tag("one"), tag("one"));
        assert_ne!(tag("one"), tag("two"));
        assert!(tag("one").starts_with("1.0-"));
    }

    #[test]
    fn an_archive_is_the_same_bytes_each_time() {
        let [a, b] = [(); 2].map(|()| {
            let folder = tempfile::tempdir().unwrap();
            let archive = image("one")
                .build("x/y", "1")
                .unwrap()
                .write(folder.path())
                .unwrap();
            fs::read(archive.file).unwrap()
        });
        assert_eq!(a, b);
    }

    #[test]
    fn a_layer_lists_folders_before_what_is_in_them() {
        let layer = image("one").layer().unwrap();
        let mut tar = tar::Archive::new(layer.as_slice());
        let paths: Vec<_> = tar
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(paths, ["bin", "bin/a", "tmp"]);
    }
}
