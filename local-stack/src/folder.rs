//! The folder in which one stack keeps data, logs and keys. One process uses it at a time: it holds a
//! lock in it for as long as it lives.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::{fs::DirBuilderExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::{
    fs::{FlockOperation, flock, statvfs},
    io::Errno,
};

use crate::{account::Account, digest, log};

/// Data, logs and write-ahead logs of a stack that has just been started, with room to work.
const DISK_NEEDED: u64 = 2 << 30;

const LOCK: &str = "lock";
const LOGS: &str = "logs";

/// Removes what it is given when its standard input ends, once the last server in it has ended.
const SWEEPER: &str = r#"
while read -r _; do :; done
tries=0
until rm -rf "$@" || [ "$tries" -ge 30 ]; do sleep 1; tries=$((tries + 1)); done
"#;

#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Where servers that do not run as root have their data, if they cannot reach `path`.
    public: Option<PathBuf>,
    _lock: File,
    /// Holds our end of the sweeper's pipe. Only a temporary folder has one.
    sweeper: Option<Child>,
}

impl Folder {
    /// A folder whose data outlives this process.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path)?;
        // What is in here is removed one day. It must not be what somebody keeps elsewhere.
        let foreign =
            !path.join(LOCK).exists() && path.read_dir().is_ok_and(|mut entries| entries.next().is_some());
        ensure!(
            !foreign,
            "{} holds other files; choose a new or empty folder with --data-dir",
            path.display()
        );
        create(&path)?;
        let lock = lock(&path)?;
        let public = public_part(&path)?;
        Ok(Self {
            path,
            public,
            _lock: lock,
            sweeper: None,
        })
    }

    /// A folder that is removed after this process has ended, however it ends.
    pub(crate) fn temporary() -> Result<Self> {
        let path = tempfile::Builder::new().prefix("local-stack-").tempdir()?.keep();
        // Made for its owner alone, but a server may run as somebody else.
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let mut folder = Self::open(&path)?;
        let sweeper = Command::new("/bin/sh")
            .args(["-c", SWEEPER, "sweeper"])
            .args(folder.parts())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("the shell that removes a temporary folder could not be started")?;
        folder.sweeper = Some(sweeper);
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Every folder that belongs to this one.
    fn parts(&self) -> impl Iterator<Item = &Path> {
        [Some(self.path.as_path()), self.public.as_deref()]
            .into_iter()
            .flatten()
    }

    /// Whether what is in it is wanted again.
    pub(crate) fn is_lasting(&self) -> bool {
        self.sweeper.is_none()
    }

    /// The data folder of one server, made if it does not exist.
    pub(crate) fn data(&self, server: &str) -> Result<PathBuf> {
        let data = self.path.join(server);
        create(&data)?;
        Ok(data)
    }

    /// The same for a server that runs under that account, if one is given.
    pub(crate) fn data_of(&self, server: &str, account: Option<Account>) -> Result<PathBuf> {
        let Some(account) = account else {
            return self.data(server);
        };
        let data = self.public.as_ref().unwrap_or(&self.path).join(server);
        create(&data)?;
        account.own(&data)?;
        Ok(data)
    }

    pub(crate) fn log(&self, server: &str) -> Result<PathBuf> {
        let logs = self.path.join(LOGS);
        create(&logs)?;
        Ok(logs.join(format!("{server}.log")))
    }

    pub(crate) fn check_space(&self) -> Result<()> {
        self.parts()
            .try_for_each(|part| check_space(part, DISK_NEEDED, "the servers' data"))
    }

    /// Waits for processes of a run that was killed: they take a moment to end.
    pub(crate) fn wait_for_earlier_run(&self) -> Result<()> {
        let logs = self.path.join(LOGS);
        if logs.exists() {
            log::wait_for_writers(&logs)
        } else {
            Ok(())
        }
    }

    /// Removes everything but the lock, which others may be waiting to see.
    pub(crate) fn clear(&self) -> Result<()> {
        for part in self.parts() {
            for entry in part
                .read_dir()
                .with_context(|| format!("{} could not be read", part.display()))?
            {
                let entry = entry?;
                let path = entry.path();
                let removed = if entry.file_type()?.is_dir() {
                    fs::remove_dir_all(&path)
                } else if entry.file_name() == LOCK {
                    Ok(())
                } else {
                    fs::remove_file(&path)
                };
                removed.with_context(|| format!("{} could not be removed", path.display()))?;
            }
        }
        Ok(())
    }

    /// Removes the folder and everything in it.
    pub(crate) fn remove(self) -> Result<()> {
        self.wait_for_earlier_run()?;
        for part in self.parts() {
            fs::remove_dir_all(part).with_context(|| format!("{} could not be removed", part.display()))?;
        }
        Ok(())
    }
}

fn create(folder: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)
        .with_context(|| format!("the folder {} could not be made", folder.display()))
}

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("{} could not be opened", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            file.set_len(0)?;
            write!(file, "{}", std::process::id())?;
            Ok(file)
        }
        Err(Errno::WOULDBLOCK) => {
            let mut owner = String::new();
            file.read_to_string(&mut owner)?;
            bail!(
                "another local-stack (process {}) uses {}; end it first or choose another folder with --data-dir",
                owner.trim(),
                folder.display()
            )
        }
        Err(error) => Err(error).with_context(|| format!("{} could not be locked", path.display())),
    }
}

fn public_part(path: &Path) -> Result<Option<PathBuf>> {
    if Account::instead_of_root().is_none() || Account::reaches(path) {
        return Ok(None);
    }
    let part =
        Account::public_folder()?.join(format!("data-{}", digest(path.as_os_str().as_encoded_bytes())));
    create(&part)?;
    Ok(Some(part))
}

/// Says how much room is missing before something runs out of it half way.
pub(crate) fn check_space(folder: &Path, needed: u64, purpose: &str) -> Result<()> {
    let found = statvfs(folder).with_context(|| format!("free space of {} is unknown", folder.display()))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let mebibytes = |bytes: u64| bytes >> 20;
    ensure!(
        free >= needed,
        "{} has {} MiB free, and {purpose} need {} MiB; make room there or choose another place",
        folder.display(),
        mebibytes(free),
        mebibytes(needed)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_use_is_refused_by_naming_its_owner() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("stack");
        let first = Folder::open(&path).unwrap();
        let message = Folder::open(&path).unwrap_err().to_string();
        assert!(
            message.contains(&format!("process {}", std::process::id())),
            "{message}"
        );
        drop(first);
        Folder::open(&path).unwrap().remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_of_somebody_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("photo.jpg"), "").unwrap();
        let message = Folder::open(folder.path()).unwrap_err().to_string();
        assert!(message.contains("holds other files"), "{message}");
        assert!(!folder.path().join(LOCK).exists());
    }

    #[test]
    fn a_fresh_start_removes_what_is_there_and_keeps_the_lock() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::open(&parent.path().join("stack")).unwrap();
        fs::write(folder.data("kafka").unwrap().join("records"), "").unwrap();
        folder.clear().unwrap();
        assert!(!folder.path().join("kafka").exists());
        Folder::open(folder.path()).unwrap_err();
    }

    #[test]
    fn too_little_space_is_named_with_what_is_needed() {
        let message = check_space(Path::new("/"), u64::MAX, "the servers' data")
            .unwrap_err()
            .to_string();
        assert!(message.contains("the servers' data need"), "{message}");
    }
}
