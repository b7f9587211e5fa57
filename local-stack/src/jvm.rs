//! How servers on the Java virtual machine are run: small heaps and a fast start rather than the last
//! bit of speed, so that three of them fit on a laptop beside everything else.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::{artifacts::Artifacts, folder::Folder, process::Launch};

const FLAGS: [&str; 7] = [
    // The second compiler pays off after minutes; until then it takes processor time from the start.
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Xshare:auto",
    "-Xms32m",
    "-XX:MaxMetaspaceSize=192m",
    "-XX:ReservedCodeCacheSize=64m",
    // Out of memory must be the end of the server, not a server that does half of its work.
    "-XX:+ExitOnOutOfMemoryError",
];

/// A process of the JDK that keeps its data in `data` and its log in the stack's folder.
pub(crate) fn launch(
    name: &str,
    artifacts: &Artifacts,
    folder: &Folder,
    data: &Path,
    log: &str,
    heap_mebibytes: u32,
) -> Result<Launch> {
    // What libraries unpack into it, a killed process leaves behind: not among everybody's files.
    let temporary = data.join("tmp");
    if temporary.exists() {
        fs::remove_dir_all(&temporary)?;
    }
    fs::create_dir(&temporary)?;
    let java = artifacts.java_home.join("bin/java");
    let launch = Launch {
        lasting: folder.is_lasting(),
        ..Launch::new(name, java, data, &folder.log(log)?)
    };
    Ok(launch.args(FLAGS).args([
        format!("-Xmx{heap_mebibytes}m"),
        format!("-Djava.io.tmpdir={}", temporary.display()),
    ]))
}

/// Arguments for a class of Kafka's: broker, tools and Connect share one class path and one logger.
pub(crate) fn kafka_class(artifacts: &Artifacts, class: &str, arguments: &[&str]) -> Vec<OsString> {
    let class_path: PathBuf = artifacts.kafka.join("*");
    let logger = [
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
    ];
    let mut all: Vec<OsString> = logger.map(OsString::from).into();
    all.extend(["-cp".into(), class_path.into_os_string(), class.into()]);
    all.extend(arguments.iter().map(OsString::from));
    all
}

/// The text of a Java properties file. Values must not need escapes.
pub(crate) fn properties(settings: &[(&str, String)]) -> String {
    let lines: Vec<String> = settings
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    lines.join("\n")
}
