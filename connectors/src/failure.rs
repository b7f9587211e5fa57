//! Why the command ends with another code than 0, and which.

use std::{error::Error, io, net::SocketAddr, path::PathBuf};

use anstream::eprintln;
use anstyle::{AnsiColor, Style};
use connectors::{
    ConnectError, config_file::FileError, database::DatabaseError, reconcile::ReconcileError,
    registry::RegistryError,
};
use service_kit::lifecycle::TaskError;

const ERROR: Style = AnsiColor::Red.on_default().bold();

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
    #[error("{0}")]
    Usage(String),
    #[error("{0} cannot be read")]
    Unreadable(String, #[source] io::Error),
    #[error("cannot listen on {0}; choose another address with --listen or ADMIN_LISTEN")]
    CannotListen(SocketAddr, #[source] io::Error),
    #[error(
        "there is no subject {subject}; `connectors schemas register` makes it, or name another topic with \
         --topic"
    )]
    NoSubject { subject: String },
    #[error("{} cannot be used as a folder of kept schemas", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("nothing was done: {0}")]
    Kept(String),
    #[error("nothing was done: there is no terminal to ask on; repeat it with --yes if you are sure")]
    CannotAsk,
    #[error("nothing was done")]
    Declined,
    /// The differences were printed.
    #[error("")]
    Changes,
    /// Said already.
    #[error("")]
    NotRunning,
    /// The same, with its exit code.
    #[error("")]
    Said(u8),
    #[error(transparent)]
    Watch(#[from] TaskError),
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    /// With what was not done, and what was.
    #[error("interrupted: {0}")]
    Interrupted(String),
    /// The same after an answer that was no.
    #[error("{0}")]
    Unrepaired(String),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Watch(_) => 1,
            Self::File(_)
            | Self::Usage(_)
            | Self::Unreadable(..)
            | Self::CannotListen(..)
            | Self::Folder { .. }
            | Self::CannotAsk
            | Self::Declined => 2,
            Self::NoSubject { .. } | Self::Kept(_) => 4,
            Self::NotRunning => 5,
            Self::Changes => 6,
            Self::Interrupted(_) | Self::Unrepaired(_) => 7,
            Self::Said(code) => *code,
            Self::Registry(error) => of_registry(error),
            Self::Database(error) => of_database(error),
            Self::Reconcile(error) => of_reconcile(error),
            Self::Connect(error) => of_connect(error),
        }
    }

    /// Whether what comes next would not fare better.
    pub(crate) fn ends_all(&self) -> bool {
        self.exit_code() == 3
    }

    pub(crate) fn print(&self) {
        if matches!(self, Self::NotRunning | Self::Changes | Self::Said(_)) {
            return;
        }
        eprintln!("{ERROR}error{ERROR:#}: {self}");
        // What lies between is how the HTTP client is built.
        let innermost = std::iter::successors(self.source(), |&cause| cause.source()).last();
        if let Some(cause) = innermost {
            eprintln!("  because: {cause}");
        }
    }
}

fn of_connect(error: &ConnectError) -> u8 {
    match error {
        ConnectError::InvalidUrl { .. } | ConnectError::UnfitPem { .. } | ConnectError::EmptyPem { .. } => 2,
        ConnectError::Unreachable { .. }
        | ConnectError::NoAnswer { .. }
        | ConnectError::Unauthorized { .. }
        | ConnectError::Distrusted { .. }
        | ConnectError::NotConnect { .. } => 3,
        ConnectError::Refused { .. }
        | ConnectError::InvalidConfig { .. }
        | ConnectError::ChangedMeanwhile { .. }
        | ConnectError::NotFound { .. } => 4,
        ConnectError::Failed { .. }
        | ConnectError::Halted { .. }
        | ConnectError::NotReached { .. }
        | ConnectError::Unsettled { .. }
        | ConnectError::LeftStopped { .. } => 5,
    }
}

fn of_registry(error: &RegistryError) -> u8 {
    match error {
        RegistryError::InvalidUrl { .. } => 2,
        RegistryError::Unreachable { .. }
        | RegistryError::Unauthorized { .. }
        | RegistryError::NotRegistry { .. } => 3,
        RegistryError::Refused { .. } => 4,
    }
}

fn of_database(error: &DatabaseError) -> u8 {
    match error {
        DatabaseError::InvalidUrl { .. } => 2,
        DatabaseError::Unreachable { .. } | DatabaseError::NoAnswer => 3,
        DatabaseError::Refused(_) => 4,
    }
}

fn of_reconcile(error: &ReconcileError) -> u8 {
    match error {
        ReconcileError::Connect(error) => of_connect(error),
        ReconcileError::ChatUrl { .. } => 2,
        ReconcileError::NoDatabase(error) => of_database(error),
        ReconcileError::NoChat { .. } | ReconcileError::NotChat { .. } => 3,
        ReconcileError::Database(_)
        | ReconcileError::Refused { .. }
        | ReconcileError::Unfinished { .. }
        | ReconcileError::Setting { .. }
        | ReconcileError::NotPublished { .. } => 4,
        ReconcileError::NotRunning { .. } | ReconcileError::SlotUnread { .. } => 5,
        ReconcileError::OpenTransactions { .. }
        | ReconcileError::OtherSnapshot { .. }
        | ReconcileError::TimedOut { .. }
        | ReconcileError::Failed { .. }
        | ReconcileError::Cancelled { .. }
        | ReconcileError::Exist { .. } => 7,
    }
}

/// Goes on after what has failed, and ends with the first failure; all later ones are printed.
#[derive(Debug, Default)]
pub(crate) struct Failures(Option<Failure>);

impl Failures {
    /// An error if it makes no sense to go on.
    pub(crate) fn add(&mut self, failure: Failure) -> Result<(), Failure> {
        if failure.ends_all() {
            if let Some(first) = &self.0 {
                first.print();
            }
            return Err(failure);
        }
        match &self.0 {
            None => self.0 = Some(failure),
            Some(_) => failure.print(),
        }
        Ok(())
    }

    pub(crate) fn end(self) -> Result<(), Failure> {
        self.0.map_or(Ok(()), Err)
    }
}
