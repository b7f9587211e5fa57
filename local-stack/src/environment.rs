//! What this machine's environment says: where caches, a JDK and tools are, and which servers to use
//! instead of built-in ones. The only place of this crate that reads environment variables.

use std::{
    ffi::OsString,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::Parser;

/// Folder below the user's cache folder. Safe to delete at any time.
const CACHE_FOLDER: &str = "trade-chat-cdc";

/// Variables of the environment; clap reads them, none is meant to be given as a flag.
#[derive(Clone, Debug, Parser)]
#[command(no_binary_name = true)]
pub struct Environment {
    #[arg(long, env = "XDG_CACHE_HOME")]
    xdg_cache_home: Option<PathBuf>,
    /// A JDK of version 21 or newer for the servers, looked at before `JAVA_HOME`.
    #[arg(long, env = "LOCAL_STACK_JAVA_HOME")]
    pub local_stack_java_home: Option<PathBuf>,
    #[arg(long, env = "JAVA_HOME")]
    pub java_home: Option<PathBuf>,
    #[arg(long, env = "PATH")]
    path: Option<OsString>,
    /// Set by cargo for what it runs.
    #[arg(long, env = "CARGO")]
    cargo: Option<PathBuf>,
    #[arg(long, env = "CC")]
    pub cc: Option<PathBuf>,
    #[arg(long, env = "CXX")]
    pub cxx: Option<PathBuf>,
    /// A MongoDB replica set to use instead of the built-in server.
    #[arg(long, env = "MONGODB_URI", hide_env_values = true)]
    pub mongodb_uri: Option<String>,
}

impl Environment {
    pub fn read() -> Result<Self> {
        Self::try_parse_from(std::iter::empty::<OsString>()).context("the environment could not be read")
    }

    /// The same with another MongoDB, or with none.
    #[cfg(feature = "full")]
    pub(crate) fn with_mongodb(self, mongodb_uri: Option<String>) -> Self {
        Self { mongodb_uri, ..self }
    }

    /// Where fetched and built servers are kept between runs.
    pub fn cache_folder(&self) -> Result<PathBuf> {
        let base = match &self.xdg_cache_home {
            Some(folder) if folder.is_absolute() => folder.clone(),
            _ => std::env::home_dir()
                .context("neither XDG_CACHE_HOME nor HOME says where to keep the servers; set one of them")?
                .join(".cache"),
        };
        Ok(base.join(CACHE_FOLDER))
    }

    /// The first executable file of that name on `PATH`.
    pub fn find(&self, program: impl AsRef<Path>) -> Option<PathBuf> {
        let program = program.as_ref();
        if program.components().count() > 1 {
            return is_executable(program).then(|| program.to_owned());
        }
        std::env::split_paths(self.path.as_ref()?)
            .map(|folder| folder.join(program))
            .find(|candidate| is_executable(candidate))
    }

    /// For tests: a machine whose only tools are those in `folder`.
    #[cfg(test)]
    pub(crate) fn with_tools_only_in(folder: &Path) -> Self {
        let path = Some(folder.into());
        Self {
            xdg_cache_home: None,
            local_stack_java_home: None,
            java_home: None,
            path,
            cargo: None,
            cc: None,
            cxx: None,
            mongodb_uri: None,
        }
    }

    pub fn cargo(&self) -> Option<PathBuf> {
        self.cargo
            .clone()
            .filter(|cargo| is_executable(cargo))
            .or_else(|| self.find("cargo"))
    }
}

pub(crate) fn is_executable(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
