//! The account of servers that refuse to run as root. Started by an ordinary user, everything runs as
//! that user; started by root, such a server becomes `nobody` and needs programs and data in places that
//! `nobody` can reach.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

/// What `nobody` is where the machine's account file does not list it.
const NOBODY: u32 = 65_534;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Account {
    /// `None` for an ordinary user.
    pub(crate) fn instead_of_root() -> Option<Self> {
        rustix::process::geteuid().is_root().then(|| {
            let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
            Self::nobody(&accounts).unwrap_or(Self {
                uid: NOBODY,
                gid: NOBODY,
            })
        })
    }

    fn nobody(accounts: &str) -> Option<Self> {
        let mut fields = accounts
            .lines()
            .find(|line| line.starts_with("nobody:"))?
            .split(':')
            .skip(2);
        // macOS writes -2 for the id that others call 4294967294.
        let mut id = || {
            fields
                .next()?
                .parse::<i64>()
                .ok()
                .map(|id| u32::try_from(id & 0xffff_ffff).unwrap_or(NOBODY))
        };
        Some(Self {
            uid: id()?,
            gid: id()?,
        })
    }

    pub(crate) fn own(self, path: &Path) -> Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("{} could not be given to the account nobody", path.display()))
    }

    /// Whether every folder on the way to `path` lets others through. What does not exist yet is made
    /// by us and does.
    pub(crate) fn reaches(path: &Path) -> bool {
        path.ancestors()
            .filter_map(|folder| folder.metadata().ok())
            .all(|folder| folder.mode() & 0o001 != 0)
    }

    /// A folder of root's that every account can reach, for programs and data of such servers.
    pub(crate) fn public_folder() -> Result<PathBuf> {
        let folder = PathBuf::from("/var/tmp/trade-chat-cdc-root");
        match fs::DirBuilder::new().mode(0o755).create(&folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("{} could not be made", folder.display()));
            }
            _ => {}
        }
        // Anyone may create names in /var/tmp: what root runs must not come from someone else.
        let found = folder.symlink_metadata()?;
        ensure!(
            found.is_dir() && found.uid() == 0 && found.permissions().mode() & 0o022 == 0,
            "{} belongs to somebody else or is writable by others; remove it",
            folder.display()
        );
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        Ok(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_found_in_account_files_of_every_system() {
        let debian = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65533:nobody:/:/usr/sbin/nologin\n";
        assert_eq!(
            Account::nobody(debian),
            Some(Account {
                uid: 65_534,
                gid: 65_533
            })
        );
        let macos = "nobody:*:-2:-2:Unprivileged User:/var/empty:/usr/bin/false\n";
        assert_eq!(
            Account::nobody(macos),
            Some(Account {
                uid: 4_294_967_294,
                gid: 4_294_967_294
            })
        );
        assert_eq!(Account::nobody("root:x:0:0::/root:/bin/sh\n"), None);
    }
}
