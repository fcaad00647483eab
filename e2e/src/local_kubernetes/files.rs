//! Files that an instance writes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Writes a file and the folders above it, whole or not at all. Only root reads it: many of them name keys.
pub fn write(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    create_parent(path)?;
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, text).with_context(|| format!("write {}", unfinished.display()))?;
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o600))?;
    fs::rename(&unfinished, path).with_context(|| format!("write {}", path.display()))
}

/// Creates the folder of a file.
pub fn create_parent(path: &Path) -> Result<()> {
    let parent = path.parent().context("a file has a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))
}
