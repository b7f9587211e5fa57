//! The servers' programs: fetched or built once, kept in the user's cache folder, used from there.
//!
//! A part of the cache is a folder whose name holds its version. It is filled under another name and
//! renamed when it is complete, so a folder of that name is always whole: several processes may fill
//! the cache at once, and people may delete it at any time.

mod maven;
mod mongo_server;
mod postgres;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result, anyhow};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::{
    environment::Environment,
    folder::check_space,
    prerequisites::{self, Wanted},
    progress::Progress,
};

/// Everything that a whole stack runs.
#[derive(Clone, Debug)]
pub struct Artifacts {
    /// A JDK that can run all servers.
    pub java_home: PathBuf,
    /// Jars of the broker and of Kafka Connect.
    pub kafka: PathBuf,
    /// Kafka Connect's plug-ins: Debezium and the Avro converter.
    pub plugins: PathBuf,
    /// Apicurio Registry.
    pub registry: PathBuf,
    /// PostgreSQL: `bin`, `lib`, `share`.
    pub postgres: PathBuf,
    /// The program of the MongoDB-compatible server; none if another MongoDB is used.
    pub mongo_server: Option<PathBuf>,
}

/// Makes sure that everything is there: fetches and builds what is missing.
pub fn ensure(progress: &Progress) -> Result<Artifacts> {
    ensure_in(&Environment::read()?, progress)
}

pub(crate) fn ensure_in(environment: &Environment, progress: &Progress) -> Result<Artifacts> {
    let cache = environment.cache_folder()?;
    let with_mongo = environment.mongodb_uri.is_none();
    let tools = prerequisites::check(
        environment,
        Wanted {
            java: true,
            maven: !maven::is_cached(&cache),
            build: with_mongo && !mongo_server::is_cached(&cache),
        },
    )?;
    let java_home = tools.java_home.clone().context("no JDK was chosen")?;
    // Fetching waits for the network and building for the processor: do both at once.
    let (servers, mongo_server) = thread::scope(|scope| {
        let mongo_server = with_mongo.then(|| scope.spawn(|| mongo_server::ensure(&cache, &tools, progress)));
        let servers = maven::ensure(&cache, &tools, progress);
        let mongo_server = mongo_server.map(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(anyhow!("the build of the server panicked")))
        });
        (servers, mongo_server.transpose())
    });
    let (servers, mongo_server) = (servers?, mongo_server?);
    Ok(Artifacts {
        java_home,
        kafka: servers.join("kafka"),
        plugins: servers.join("plugins"),
        registry: servers.join("registry"),
        postgres: postgres::ensure(&cache, &servers, progress)?,
        mongo_server,
    })
}

/// PostgreSQL alone, for tests that need nothing else.
pub(crate) fn postgres(environment: &Environment, progress: &Progress) -> Result<PathBuf> {
    let cache = environment.cache_folder()?;
    if let Some(postgres) = postgres::cached(&cache)? {
        return Ok(postgres);
    }
    let maven = !maven::is_cached(&cache);
    let tools = prerequisites::check(
        environment,
        Wanted {
            maven,
            ..Wanted::default()
        },
    )?;
    let servers = maven::ensure(&cache, &tools, progress)?;
    postgres::ensure(&cache, &servers, progress)
}

/// The MongoDB-compatible server alone, for tests that need nothing else.
#[cfg(feature = "full")]
pub(crate) fn mongo_server(environment: &Environment, progress: &Progress) -> Result<PathBuf> {
    let cache = environment.cache_folder()?;
    let build = !mongo_server::is_cached(&cache);
    let tools = prerequisites::check(
        environment,
        Wanted {
            build,
            ..Wanted::default()
        },
    )?;
    mongo_server::ensure(&cache, &tools, progress)
}

/// A part of the cache: its folder if it is there, else filled by `fill` and moved to its place.
fn part(
    cache: &Path,
    name: &str,
    bytes_needed: u64,
    progress: &Progress,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let place = cache.join(name);
    if place.is_dir() {
        return Ok(place);
    }
    fs::create_dir_all(cache).with_context(|| format!("the folder {} could not be made", cache.display()))?;
    let _lock = wait_for_lock(&cache.join(format!("{name}.lock")), name, progress)?;
    if place.is_dir() {
        return Ok(place);
    }
    // Whoever was at it before us is dead, or we would not have the lock.
    let unfinished = cache.join(format!("{name}.unfinished"));
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)
            .with_context(|| format!("the unfinished {} could not be removed", unfinished.display()))?;
    }
    check_space(cache, bytes_needed, "fetching and building the servers")?;
    fs::create_dir(&unfinished)?;
    fill(&unfinished)?;
    fs::rename(&unfinished, &place)
        .with_context(|| format!("{} could not be moved to its place", unfinished.display()))?;
    Ok(place)
}

fn wait_for_lock(path: &Path, name: &str, progress: &Progress) -> Result<File> {
    loop {
        let file = File::create(path).with_context(|| format!("{} could not be made", path.display()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                let step = progress.step(format!(
                    "Waiting for another process that fetches or builds {name}"
                ));
                flock(&file, FlockOperation::LockExclusive)?;
                step.done();
            }
            other => other?,
        }
        // The cache may have been deleted while we waited: a lock on a deleted file excludes nobody.
        if is_same_file(&file, path) {
            return Ok(file);
        }
        fs::create_dir_all(path.parent().unwrap_or(path))?;
    }
}

fn is_same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    matches!((file.metadata(), path.metadata()), (Ok(a), Ok(b)) if (a.dev(), a.ino()) == (b.dev(), b.ino()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_part_is_filled_once_however_many_want_it() {
        let cache = tempfile::tempdir().unwrap();
        // What a killed process left must not get into the part.
        fs::create_dir(cache.path().join("part-1.unfinished")).unwrap();
        fs::write(cache.path().join("part-1.unfinished/half"), "").unwrap();
        let filled = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let place = part(cache.path(), "part-1", 0, &Progress::for_tests(), |folder| {
                        filled.fetch_add(1, Ordering::SeqCst);
                        fs::write(folder.join("program"), "whole")?;
                        Ok(())
                    })
                    .unwrap();
                    assert_eq!(fs::read_to_string(place.join("program")).unwrap(), "whole");
                });
            }
        });
        assert_eq!(filled.load(Ordering::SeqCst), 1);
        assert!(!cache.path().join("part-1/half").exists());
    }

    #[test]
    fn a_failed_fill_leaves_nothing_that_looks_whole() {
        let cache = tempfile::tempdir().unwrap();
        let fill = |_: &Path| Err(anyhow!("no network"));
        part(cache.path(), "part-1", 0, &Progress::for_tests(), fill).unwrap_err();
        assert!(!cache.path().join("part-1").exists());
    }
}
