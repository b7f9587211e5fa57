//! Removes what local stacks leave on a machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{account::Account, environment::Environment, folder::Folder};

/// Removes the data folder, unless a stack runs on it, and if `cache` the servers' programs. Answers
/// what was removed.
pub fn clean(data_dir: &Path, cache: bool) -> Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    if data_dir.exists() {
        Folder::open(data_dir)?.remove()?;
        removed.push(data_dir.to_owned());
    }
    if cache {
        let mut caches = vec![Environment::read()?.cache_folder()?];
        if Account::instead_of_root().is_some() {
            caches.push(Account::public_folder()?);
        }
        for folder in caches.into_iter().filter(|folder| folder.exists()) {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("{} could not be removed", folder.display()))?;
            removed.push(folder);
        }
    }
    Ok(removed)
}
