//! Why the command ends with another code than 0, and which.

use std::{error::Error, io, path::PathBuf};

use connectors::{ConnectError, config_file::FileError, database::DatabaseError, registry::RegistryError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(
        "there is no subject {subject}; `connectors schemas register` makes it, or name another topic with \
         --topic"
    )]
    NoSubject { subject: String },
    #[error("{} cannot be used as a folder of kept schemas", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("nothing was done: {0}")]
    Slot(String),
    #[error("not deleted: there is no terminal to ask on; repeat it with --yes if you are sure")]
    CannotAsk,
    #[error("not deleted")]
    Declined,
    /// Said already.
    #[error("")]
    NotRunning,
    /// The same, with its exit code.
    #[error("")]
    Said(u8),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::File(_) | Self::Folder { .. } | Self::CannotAsk | Self::Declined => 2,
            Self::NoSubject { .. } | Self::Slot(_) => 4,
            Self::NotRunning => 5,
            Self::Said(code) => *code,
            Self::Registry(error) => match error {
                RegistryError::InvalidUrl { .. } => 2,
                RegistryError::Unreachable { .. }
                | RegistryError::Unauthorized { .. }
                | RegistryError::NotRegistry { .. } => 3,
                RegistryError::Refused { .. } => 4,
            },
            Self::Database(error) => match error {
                DatabaseError::InvalidUrl { .. } => 2,
                DatabaseError::Unreachable { .. } | DatabaseError::NoAnswer => 3,
                DatabaseError::Refused(_) => 4,
            },
            Self::Connect(error) => match error {
                ConnectError::InvalidUrl { .. } => 2,
                ConnectError::Unreachable { .. }
                | ConnectError::NoAnswer { .. }
                | ConnectError::Unauthorized { .. }
                | ConnectError::NotConnect { .. } => 3,
                ConnectError::Refused { .. }
                | ConnectError::InvalidConfig { .. }
                | ConnectError::NotFound { .. } => 4,
                ConnectError::Failed { .. }
                | ConnectError::Halted { .. }
                | ConnectError::NotRunning { .. } => 5,
            },
        }
    }

    pub(crate) fn print(&self) {
        if matches!(self, Self::NotRunning | Self::Said(_)) {
            return;
        }
        eprintln!("error: {self}");
        // What lies between is how the HTTP client is built.
        let innermost = std::iter::successors(self.source(), |&cause| cause.source()).last();
        if let Some(cause) = innermost {
            eprintln!("  because: {cause}");
        }
    }
}
