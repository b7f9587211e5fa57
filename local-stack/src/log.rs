//! A process's log file. The process and its guard hold a lock on it for as long as one of them lives,
//! also when their launcher is gone: the next process of the same log, and whoever removes its data,
//! waits for them instead of meeting their ports and data still in use.

use std::{
    fs::{self, File, OpenOptions},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// Longer than a guard gives any process to end.
const EARLIER_ONE_ENDS: Duration = Duration::from_secs(20);
/// A log that has grown beyond this starts anew with the process.
const LOG_BYTES: u64 = 16 << 20;
const TAIL_LINES: usize = 20;
const TAIL_BYTES: usize = 16 * 1024;

/// Opens a log to be handed to a process of that name, once nobody writes to it any more.
pub(crate) fn open(path: &Path, name: &str) -> Result<File> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("the log file {} could not be opened", path.display()))?;
    lock(&log, path, name)?;
    if log.metadata()?.len() > LOG_BYTES {
        log.set_len(0)?;
    }
    Ok(log)
}

/// Waits until no process writes to a log in that folder any more.
pub(crate) fn wait_for_writers(logs: &Path) -> Result<()> {
    for entry in logs
        .read_dir()
        .with_context(|| format!("{} could not be read", logs.display()))?
    {
        let path = entry?.path();
        if let Ok(log) = File::open(&path) {
            lock(&log, &path, "a process")?;
        }
    }
    Ok(())
}

fn lock(log: &File, path: &Path, name: &str) -> Result<()> {
    let deadline = Instant::now() + EARLIER_ONE_ENDS;
    loop {
        match flock(log, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            Err(Errno::WOULDBLOCK) => bail!(
                "{name} of an earlier run still lives and writes to {0}; end it (`fuser {0}` names it)",
                path.display()
            ),
            Err(error) => {
                return Err(error).with_context(|| format!("{} could not be locked", path.display()));
            }
        }
    }
}

/// Where a log is and how it ends, for error messages.
pub(crate) fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(TAIL_BYTES)..]).replace('\r', "\n");
    // Cargo's messages for programs say nothing to people.
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with("{\"reason\":"))
        .collect();
    if lines.is_empty() {
        return format!("{} is empty", path.display());
    }
    let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n  | ");
    format!("{} ends with:\n  | {tail}", path.display())
}
