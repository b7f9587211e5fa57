//! PostgreSQL's binaries, unpacked where the account that runs them can reach them.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use liblzma::bufread::XzDecoder;

use super::{maven::POM, part};
use crate::{account::Account, digest, progress::Progress};

const BYTES_NEEDED: u64 = 100 << 20;

fn name() -> String {
    format!("postgres-{}", digest(POM.as_bytes()))
}

/// The cache, or if PostgreSQL cannot run as we do and not reach the cache, a folder that it reaches.
fn home(cache: &Path) -> Result<PathBuf> {
    if Account::instead_of_root().is_some() && !Account::reaches(cache) {
        Account::public_folder()
    } else {
        Ok(cache.to_owned())
    }
}

pub(super) fn cached(cache: &Path) -> Result<Option<PathBuf>> {
    Ok(Some(home(cache)?.join(name())).filter(|place| place.is_dir()))
}

pub(super) fn ensure(cache: &Path, servers: &Path, progress: &Progress) -> Result<PathBuf> {
    part(&home(cache)?, &name(), BYTES_NEEDED, progress, |folder| {
        let step = progress.step("Unpacking PostgreSQL");
        unpack(&servers.join("postgres"), folder).context("PostgreSQL's binaries could not be unpacked")?;
        step.done();
        Ok(())
    })
}

fn unpack(from: &Path, to: &Path) -> Result<()> {
    let archive = from
        .read_dir()?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "txz"))
        .with_context(|| format!("{} holds no .txz archive", from.display()))?;
    let reader = XzDecoder::new(BufReader::new(File::open(archive)?));
    tar::Archive::new(reader).unpack(to)?;
    Ok(())
}
