//! The servers that come as jars and archives, fetched by Maven with the one `pom.xml` of this crate.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::part;
use crate::{
    digest,
    prerequisites::Tools,
    process::Launch,
    progress::{Progress, Step},
};

/// Pins all versions; the same file builds the image of the Kafka Connect worker.
pub(crate) const POM: &str = include_str!("../../pom.xml");

/// What Maven downloads into its own repository and what is unpacked from it.
const BYTES_NEEDED: u64 = 1 << 30;

/// Maven's arguments for each of the pom's profiles.
const CALLS: [[&str; 2]; 3] = [
    ["-Pkafka", "dependency:copy-dependencies"],
    ["-Pconverter", "dependency:copy-dependencies"],
    ["-Parchives", "generate-resources"],
];

/// What else makes this folder: raise it when something is added to what the pom gives.
const LAYOUT: &str = "2";

fn name() -> String {
    format!("servers-{}-{LAYOUT}", digest(POM.as_bytes()))
}

pub(super) fn is_cached(cache: &Path) -> bool {
    cache.join(name()).is_dir()
}

pub(super) fn ensure(cache: &Path, tools: &Tools, progress: &Progress) -> Result<PathBuf> {
    part(cache, &name(), BYTES_NEEDED, progress, |folder| {
        // The part may have been deleted since the tools were chosen.
        let (Some(maven), Some(java_home)) = (&tools.maven, &tools.java_home) else {
            bail!(
                "the cache {} was deleted in this moment; run this again",
                cache.display()
            );
        };
        let step = progress.step("Fetching PostgreSQL, Kafka, Debezium and the schema registry");
        fetch(cache, folder, maven, java_home, &step)?;
        step.done();
        Ok(())
    })
}

fn fetch(cache: &Path, folder: &Path, maven: &Path, java_home: &Path, step: &Step) -> Result<()> {
    fs::write(folder.join("pom.xml"), POM)?;
    // Outlives the folder, so that an error can name it.
    let log = cache.join("maven.log");
    let _ = fs::remove_file(&log);
    for call in CALLS {
        let launch = Launch::new("Maven", maven, folder, &log)
            // -C: a wrong checksum is an error.
            .args(["-B", "-C", "-e", "-Dstyle.color=never"])
            .args(call)
            .args([
                format!("-Dpostgres.platform={}", platform()?),
                format!("-Dout={}", folder.display()),
            ])
            .env("JAVA_HOME", java_home);
        launch
            .run(|| step.message(downloaded(&fs::read_to_string(&log).unwrap_or_default())))
            .context(
                "the servers could not be fetched; check the network and Maven's settings and run this again",
            )?;
    }
    list_plugins(folder, java_home, &log)?;
    // Maven's own notes of what it has done, and temporary files.
    fs::remove_dir_all(folder.join("target"))?;
    Ok(())
}

/// Lists plug-ins in a manifest where their jars do not, so that Connect can start without looking into
/// every class of every jar. The Avro converter needs it.
fn list_plugins(folder: &Path, java_home: &Path, log: &Path) -> Result<()> {
    let class_path = folder.join("kafka/*");
    Launch::new("the listing of plug-ins", java_home.join("bin/java"), folder, log)
        .args([
            "-XX:TieredStopAtLevel=1".into(),
            "-Djava.io.tmpdir=target".into(),
            "-cp".into(),
            class_path.into_os_string(),
        ])
        .args([
            "org.apache.kafka.tools.ConnectPluginPath",
            "sync-manifests",
            "--plugin-path",
            "plugins",
        ])
        .run(|| ())
        .context("Kafka Connect's plug-ins could not be listed")
}

/// The platform as the names of PostgreSQL's archives say it.
fn platform() -> Result<&'static str> {
    Ok(match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => "linux-amd64",
        ("linux", "aarch64") => "linux-arm64v8",
        ("macos", "aarch64") => "darwin-arm64v8",
        (system, processor) => bail!(
            "there are no PostgreSQL binaries for {system} on {processor}; use the containers of docker-compose.yml"
        ),
    })
}

/// What Maven's log says about its downloads so far.
fn downloaded(log: &str) -> String {
    let files = log.matches("Downloaded from").count();
    match files {
        0 => String::new(),
        1 => "1 file downloaded".to_owned(),
        _ => format!("{files} files downloaded"),
    }
}
