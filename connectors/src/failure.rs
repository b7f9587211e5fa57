//! Why the command ends with another code than 0, and which.

use std::error::Error;

use connectors::{ConnectError, config_file::FileError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("not deleted: there is no terminal to ask on; repeat it with --yes if you are sure")]
    CannotAsk,
    #[error("not deleted")]
    Declined,
    /// Said already.
    #[error("")]
    NotRunning,
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::File(_) | Self::CannotAsk | Self::Declined => 2,
            Self::NotRunning => 5,
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
        if matches!(self, Self::NotRunning) {
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
