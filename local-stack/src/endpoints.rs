//! Where everything listens, in a file for other tools.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Name of the file in the folder of a running system.
const FILE: &str = "endpoints.json";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoints {
    pub trade_service: String,
    pub trade_admin: String,
    /// The first instance.
    pub chat_service: String,
    pub chat_admin: String,
    /// All instances.
    pub chat_services: Vec<String>,
    pub chat_admins: Vec<String>,
    pub connect: String,
    pub registry: String,
    /// `bootstrap.servers` of clients.
    pub kafka: String,
    /// A connection string.
    pub mongodb: String,
    /// The connection string of the database of trade posts, for its owner.
    pub postgres: String,
}

impl Endpoints {
    /// Those of the system that runs in `folder`.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = std::fs::read(&path).with_context(|| {
            format!(
                "{} could not be read; is a system up there (`cargo local-stack up`)?",
                path.display()
            )
        })?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is not a list of addresses", path.display()))
    }

    /// Readers find all of it or nothing.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let unfinished = folder.join("endpoints.json.unfinished");
        std::fs::write(&unfinished, serde_json::to_vec_pretty(self)?)?;
        std::fs::rename(&unfinished, folder.join(FILE)).context("the list of addresses could not be written")
    }

    /// The absence of the file says that nothing runs there.
    pub(crate) fn remove(folder: &Path) {
        let _ = std::fs::remove_file(folder.join(FILE));
    }
}
