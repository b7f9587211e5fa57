//! The MongoDB-compatible server, built once from its source. It is a program of its own under another
//! licence: it is run, never linked.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::part;
use crate::{
    cargo,
    prerequisites::Tools,
    progress::{Progress, Step},
};

const CRATE: &str = "secantus-mdb";
const VERSION: &str = "0.5.3-beta.193";
const PROGRAM: &str = "bin/secantusd-rs";
const BYTES_NEEDED: u64 = 2 << 30;

fn name() -> String {
    format!(
        "{CRATE}-{VERSION}-{}-{}",
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}

pub(super) fn is_cached(cache: &Path) -> bool {
    cache.join(name()).is_dir()
}

/// The path of the program.
pub(super) fn ensure(cache: &Path, tools: &Tools, progress: &Progress) -> Result<PathBuf> {
    let place = part(cache, &name(), BYTES_NEEDED, progress, |folder| {
        // The part may have been deleted since the tools were chosen.
        let Some(cargo) = &tools.cargo else {
            bail!(
                "the cache {} was deleted in this moment; run this again",
                cache.display()
            );
        };
        let step = progress.step("Building the MongoDB-compatible server");
        build(cache, folder, cargo, &step)?;
        step.done();
        Ok(())
    })?;
    Ok(place.join(PROGRAM))
}

fn build(cache: &Path, folder: &Path, program: &Path, step: &Step) -> Result<()> {
    let log = cache.join(format!("{CRATE}.log"));
    let _ = fs::remove_file(&log);
    let leftovers = folder.join("build");
    cargo::launch("cargo install", program, folder, &log)
        .args([
            "install",
            CRATE,
            "--version",
            VERSION,
            "--locked",
            "--ignore-rust-version",
            "--no-track",
        ])
        .args(["--root".into(), folder.as_os_str().to_owned()])
        .args(["--target-dir".into(), leftovers.as_os_str().to_owned()])
        .run(|| {
            if let Some((position, total)) = cargo::built(&log) {
                step.position(position, total);
            }
        })
        .context("the MongoDB-compatible server could not be built")?;
    fs::remove_dir_all(leftovers)?;
    Ok(())
}
