//! The tools that must be on the machine before anything is fetched, built or started.
//! All that is missing is named in one message, each with a way to get it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::environment::{Environment, is_executable};

/// Apicurio Registry 3 needs this version; Kafka and Connect would do with less.
const JAVA_NEEDED: u32 = 21;

/// Folders in which packages and installers put one JDK per subfolder.
const JDK_FOLDERS: [&str; 5] = [
    "/usr/lib/jvm",
    "/usr/java",
    "/opt/java",
    "/Library/Java/JavaVirtualMachines",
    "/opt/homebrew/opt",
];

/// What the coming work needs; a filled cache needs no build tools.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    /// A JDK to run the servers (and Maven) with.
    pub(crate) java: bool,
    /// Maven, to fetch the servers.
    pub(crate) maven: bool,
    /// cmake, a C/C++ compiler and cargo, to build the MongoDB-compatible server.
    pub(crate) build: bool,
}

/// The tools that were wanted and found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tools {
    pub(crate) java_home: Option<PathBuf>,
    pub(crate) maven: Option<PathBuf>,
    pub(crate) cargo: Option<PathBuf>,
}

pub(crate) fn check(environment: &Environment, wanted: Wanted) -> Result<Tools> {
    let mut tools = Tools::default();
    let mut missing = Vec::new();
    if wanted.java || wanted.maven {
        match choose_java(jdk_candidates(environment).map(|home| (java_version(&home), home))) {
            Ok(home) => tools.java_home = Some(home),
            Err(sentence) => missing.push(sentence),
        }
    }
    if wanted.maven {
        tools.maven = environment.find("mvn");
        if tools.maven.is_none() {
            missing.push(
                "Maven (mvn) fetches the servers and is not on PATH: `apt-get install maven`, `brew install \
                 maven`, or https://maven.apache.org/download.cgi"
                    .to_owned(),
            );
        }
    }
    if wanted.build {
        tools.cargo = environment.cargo();
        if tools.cargo.is_none() {
            missing.push(
                "cargo builds the MongoDB-compatible server: install it from https://rustup.rs".to_owned(),
            );
        }
        if environment.find("cmake").is_none() {
            missing.push(
                "cmake builds the MongoDB-compatible server's storage engine and is not on PATH: `apt-get install \
                 cmake` or `brew install cmake`"
                    .to_owned(),
            );
        }
        let found = |chosen: &Option<PathBuf>, names: [&str; 3]| {
            chosen
                .as_ref()
                .is_some_and(|program| environment.find(program).is_some())
                || names.iter().any(|name| environment.find(name).is_some())
        };
        if !found(&environment.cc, ["cc", "gcc", "clang"])
            || !found(&environment.cxx, ["c++", "g++", "clang++"])
        {
            missing.push(
                "a C and C++ compiler builds the MongoDB-compatible server's storage engine: `apt-get install \
                 build-essential` or `xcode-select --install`"
                    .to_owned(),
            );
        }
    }
    if !missing.is_empty() {
        bail!("missing on this machine:\n  - {}", missing.join("\n  - "));
    }
    Ok(tools)
}

/// Homes of JDKs that may be here, the user's own choice first.
fn jdk_candidates(environment: &Environment) -> impl Iterator<Item = PathBuf> {
    let chosen = [
        environment.local_stack_java_home.clone(),
        environment.java_home.clone(),
    ];
    let on_path = environment
        .find("java")
        .and_then(|java| java.canonicalize().ok())
        .and_then(|java| Some(java.parent()?.parent()?.to_owned()));
    let mut installed: Vec<PathBuf> = JDK_FOLDERS
        .iter()
        .filter_map(|folder| Path::new(folder).read_dir().ok())
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect();
    // The order of a folder's entries is chance; the same machine should always get the same JDK.
    installed.sort();
    installed.reverse();
    chosen
        .into_iter()
        .flatten()
        .chain(on_path)
        .chain(installed)
        // macOS bundles keep the home further down.
        .flat_map(|home| {
            [
                home.join("Contents/Home"),
                home.join("libexec/openjdk.jdk/Contents/Home"),
                home,
            ]
        })
        .filter(|home| is_executable(&home.join("bin/java")))
}

/// What `java -version` of that home answers, for example 21 or 25; `None` if it does not run.
fn java_version(home: &Path) -> Option<u32> {
    let output = Command::new(home.join("bin/java"))
        .arg("-version")
        .output()
        .ok()?;
    parse_java_version(&String::from_utf8_lossy(&output.stderr))
}

/// `openjdk version "21.0.4" 2024-07-16` → 21; `java version "1.8.0_422"` → 8; `"25-ea"` → 25.
fn parse_java_version(text: &str) -> Option<u32> {
    let version = text.split('"').nth(1)?;
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    match numbers.next()?.ok()? {
        1 => numbers.next()?.ok(),
        major => Some(major),
    }
}

/// The first home whose version fits, or the sentence that says what was found instead.
fn choose_java(candidates: impl Iterator<Item = (Option<u32>, PathBuf)>) -> Result<PathBuf, String> {
    let mut found = Vec::new();
    for (version, home) in candidates {
        match version {
            Some(version) if version >= JAVA_NEEDED => return Ok(home),
            Some(version) => found.push(format!("Java {version} in {}", home.display())),
            None => found.push(format!("one that does not run in {}", home.display())),
        }
    }
    found.dedup();
    let found = if found.is_empty() {
        "none was found".to_owned()
    } else {
        format!("found: {}", found.join(", "))
    };
    Err(format!(
        "Java {JAVA_NEEDED} or newer runs Kafka and the schema registry ({found}): `apt-get install \
         openjdk-21-jre-headless`, `brew install openjdk`, or https://adoptium.net; then set LOCAL_STACK_JAVA_HOME \
         to its folder if it is not found by itself"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_every_shape_are_read() {
        let read = |text: &str| parse_java_version(text);
        assert_eq!(
            read("openjdk version \"21.0.4\" 2024-07-16\nOpenJDK Runtime"),
            Some(21)
        );
        assert_eq!(read("openjdk version \"25\" 2025-09-16 LTS"), Some(25));
        assert_eq!(read("openjdk version \"26-ea\" 2026-03-17"), Some(26));
        assert_eq!(read("java version \"1.8.0_422\""), Some(8));
        assert_eq!(read("Error: could not find libjava.so"), None);
    }

    #[test]
    fn the_first_fitting_jdk_is_taken() {
        let candidates = [(None, "/a"), (Some(17), "/b"), (Some(21), "/c"), (Some(25), "/d")];
        let chosen = choose_java(
            candidates
                .into_iter()
                .map(|(version, home)| (version, home.into())),
        );
        assert_eq!(chosen, Ok("/c".into()));
    }

    #[test]
    fn what_was_found_instead_is_named() {
        let old = [(Some(17), "/usr/lib/jvm/seventeen"), (Some(8), "/opt/eight")];
        let sentence =
            choose_java(old.into_iter().map(|(version, home)| (version, home.into()))).unwrap_err();
        assert!(sentence.contains("Java 21 or newer"), "{sentence}");
        assert!(
            sentence.contains("found: Java 17 in /usr/lib/jvm/seventeen, Java 8 in /opt/eight"),
            "{sentence}"
        );
        assert!(sentence.contains("apt-get install"), "{sentence}");

        let sentence = choose_java(std::iter::empty()).unwrap_err();
        assert!(sentence.contains("none was found"), "{sentence}");
    }

    #[test]
    fn all_that_is_missing_comes_in_one_message() {
        let empty = tempfile::tempdir().unwrap();
        let environment = Environment::with_tools_only_in(empty.path());
        let message = check(
            &environment,
            Wanted {
                java: false,
                maven: true,
                build: true,
            },
        )
        .unwrap_err()
        .to_string();
        for tool in ["mvn", "cargo", "cmake", "C and C++ compiler"] {
            assert!(message.contains(tool), "{tool} is not named in: {message}");
        }
    }
}
