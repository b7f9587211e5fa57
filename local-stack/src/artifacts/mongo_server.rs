//! The MongoDB-compatible server, built once from its source. It is a program of its own under another
//! licence: it is run, never linked.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::part;
use crate::{
    cargo_env,
    prerequisites::Tools,
    process::Launch,
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

fn build(cache: &Path, folder: &Path, cargo: &Path, step: &Step) -> Result<()> {
    let log = cache.join(format!("{CRATE}.log"));
    let _ = fs::remove_file(&log);
    let leftovers = folder.join("build");
    let launch = Launch::new("cargo install", cargo, folder, &log)
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
        // Makes cargo say how many units are built, also into a file.
        .env("CARGO_TERM_PROGRESS_WHEN", "always")
        .env("CARGO_TERM_PROGRESS_WIDTH", "60")
        .env("CARGO_TERM_COLOR", "never");
    cargo_env::without_build_variables(launch)
        .run(|| {
            if let Some((position, total)) = built(&fs::read(&log).unwrap_or_default()) {
                step.position(position, total);
            }
        })
        .context("the MongoDB-compatible server could not be built")?;
    fs::remove_dir_all(leftovers)?;
    Ok(())
}

/// The last `n/m` of cargo's `Building [====>   ] 120/215: name`.
fn built(log: &[u8]) -> Option<(u64, u64)> {
    let text = String::from_utf8_lossy(&log[log.len().saturating_sub(4096)..]);
    let (position, total) = text
        .rsplit("] ")
        .find_map(|piece| piece.split_once(':')?.0.split_once('/'))?;
    Some((position.trim().parse().ok()?, total.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn cargo_s_progress_is_read_from_its_log() {
        let log = b"   Compiling a v1.0.0\r    Building [=>   ] 41/215: ring, cc\r    Building [==>  ] 42/215: cc(build)\r";
        assert_eq!(super::built(log), Some((42, 215)));
        assert_eq!(super::built(b"  Downloaded a v1.0.0\n"), None);
    }
}
