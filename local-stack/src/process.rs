//! A process that cannot outlive the one that started it, however that one ends: every process runs
//! under a small shell script, the guard, which holds a pipe from us and takes the process down when
//! the pipe ends. No signal handler of ours, no thread and no async runtime has to be alive for that.
//!
//! The process and its guard hold a lock on the log file for as long as one of them lives, so the next
//! one of the same log waits for it instead of meeting its ports and data still in use.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    process::{Pid, Signal, kill_process},
};

use crate::account::Account;

const GUARD: &str = include_str!("guard.sh");
const RUN_GUARD: &str = r#"eval "$LOCAL_STACK_GUARD""#;
/// What a process gets to end in order.
pub(crate) const ORDERLY_END: Duration = Duration::from_secs(10);
/// Longer than the guard gives any process to end.
const EARLIER_ONE_ENDS: Duration = Duration::from_secs(20);
/// A log that has grown beyond this starts anew with the process.
const LOG_BYTES: u64 = 16 << 20;
const TAIL_LINES: usize = 20;
const TAIL_BYTES: usize = 16 * 1024;

/// What to run, and how it ends.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// As people call it, for messages.
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) envs: Vec<(String, OsString)>,
    /// Variables of our own environment that it must not see.
    pub(crate) hidden_envs: Vec<String>,
    pub(crate) working_folder: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) account: Option<Account>,
    /// Asks it to end in order.
    pub(crate) stop_signal: Signal,
    /// How it ends when the launcher is gone.
    pub(crate) ending: Ending,
}

/// How a guard ends its process: with a signal, and after that time by killing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) signal: Signal,
    pub(crate) bound: Duration,
}

impl Ending {
    /// For processes that have nothing to lose.
    pub(crate) const AT_ONCE: Self = Self {
        signal: Signal::KILL,
        bound: Duration::ZERO,
    };
}

impl Launch {
    pub(crate) fn new(name: &str, program: impl Into<PathBuf>, working_folder: &Path, log: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: program.into(),
            args: Vec::new(),
            envs: Vec::new(),
            hidden_envs: Vec::new(),
            working_folder: working_folder.to_owned(),
            log: log.to_owned(),
            account: None,
            stop_signal: Signal::TERM,
            ending: Ending::AT_ONCE,
        }
    }

    pub(crate) fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub(crate) fn arg(self, arg: impl Into<OsString>) -> Self {
        self.args([arg])
    }

    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.envs.push((name.to_owned(), value.into()));
        self
    }

    /// Starts the process, adding to its log.
    pub(crate) fn spawn(&self) -> Result<Process> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("the log file {} could not be opened", self.log.display()))?;
        self.wait_for_earlier_one(&log)?;
        if log.metadata()?.len() > LOG_BYTES {
            log.set_len(0)?;
        }
        let mut command = Command::new("/bin/sh");
        command
            // Handed over as a variable, the script does not fill every list of processes.
            .args(["-c", RUN_GUARD, "guard", signal_name(self.ending.signal)])
            .arg(self.ending.bound.as_secs().to_string())
            .arg(&self.program)
            .args(&self.args)
            .env("LOCAL_STACK_GUARD", GUARD)
            .envs(self.envs.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.working_folder)
            // Out of reach of the terminal's Ctrl-C: the launcher ends its processes in order.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log);
        for name in &self.hidden_envs {
            command.env_remove(name);
        }
        if let Some(account) = self.account {
            // The standard library also clears root's supplementary groups here.
            command.uid(account.uid).gid(account.gid);
        }
        let mut guard = command
            .spawn()
            .with_context(|| format!("{} could not be started", self.name))?;
        let mut line = String::new();
        if let Some(output) = guard.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let pid = line.trim().parse().ok().and_then(Pid::from_raw);
        let pid =
            pid.with_context(|| format!("{} could not be started; see {}", self.name, self.log.display()))?;
        let pipe = guard.stdin.take();
        Ok(Process {
            guard,
            _pipe: pipe,
            pid,
        })
    }

    fn wait_for_earlier_one(&self, log: &File) -> Result<()> {
        let deadline = Instant::now() + EARLIER_ONE_ENDS;
        loop {
            match flock(log, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(20));
                }
                Err(Errno::WOULDBLOCK) => bail!(
                    "{} of an earlier run still lives and writes to {}; end it (`fuser {0}` names it)",
                    self.name,
                    self.log.display()
                ),
                Err(error) => {
                    return Err(error).with_context(|| format!("{} could not be locked", self.log.display()));
                }
            }
        }
    }

    /// Runs a command that ends by itself, calling `tick` now and then; an error shows the end of its log.
    pub(crate) fn run(&self, mut tick: impl FnMut()) -> Result<()> {
        let mut process = self.spawn()?;
        let status = loop {
            if let Some(status) = process.try_wait()? {
                break status;
            }
            tick();
            thread::sleep(Duration::from_millis(50));
        };
        ensure!(
            status.success(),
            "{} failed ({status}); {}",
            self.name,
            self.log_tail()
        );
        Ok(())
    }

    /// Where the log is and how it ends, for error messages.
    pub(crate) fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text =
            String::from_utf8_lossy(&text[text.len().saturating_sub(TAIL_BYTES)..]).replace('\r', "\n");
        // Cargo's messages for programs say nothing to people.
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with("{\"reason\":"))
            .collect();
        if lines.is_empty() {
            return format!("{} is empty", self.log.display());
        }
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n  | ");
        format!("{} ends with:\n  | {tail}", self.log.display())
    }
}

fn signal_name(signal: Signal) -> &'static str {
    match signal {
        Signal::INT => "INT",
        Signal::QUIT => "QUIT",
        Signal::KILL => "KILL",
        _ => "TERM",
    }
}

/// A running process. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Process {
    guard: Child,
    /// Our end of the guard's pipe. Left in `guard`, waiting would close it, and the guard would act.
    _pipe: Option<ChildStdin>,
    pid: Pid,
}

impl Process {
    /// The process's own id, not its guard's.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    pub(crate) fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.guard.try_wait()?)
    }

    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        // While the guard runs, the id belongs to the process or, for a moment, to nobody.
        if self.try_wait()?.is_none() {
            match kill_process(self.pid, signal) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Kills it and waits until it is gone.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.guard.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // If this fails, the end of the pipe makes the guard do it.
        let _ = self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(folder: &Path, script: &str) -> Launch {
        Launch::new("the script", "/bin/sh", folder, &folder.join("script.log")).args(["-c", script])
    }

    #[test]
    fn a_failure_shows_the_end_of_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let launch = shell(folder.path(), "echo first; echo 'no space left' >&2; exit 3");
        let message = launch.run(|| {}).unwrap_err().to_string();
        assert!(
            message.contains("the script failed (exit status: 3)"),
            "{message}"
        );
        assert!(
            message.contains("script.log ends with:\n  | first\n  | no space left"),
            "{message}"
        );
    }

    #[test]
    fn signals_reach_the_process_and_its_end_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell(folder.path(), "exec sleep 60").spawn().unwrap();
        assert_eq!(process.try_wait().unwrap(), None);
        process.kill().unwrap();
        assert!(process.try_wait().unwrap().is_some());
        assert_eq!(
            rustix::process::test_kill_process(process.pid()),
            Err(Errno::SRCH)
        );
    }

    #[test]
    fn the_next_process_of_a_log_waits_for_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let first = shell(folder.path(), "sleep 0.3; echo one");
        let second = shell(folder.path(), "echo two");
        let first = first.spawn().unwrap();
        second.run(|| {}).unwrap();
        let log = fs::read_to_string(folder.path().join("script.log")).unwrap();
        assert_eq!(log, "one\ntwo\n");
        drop(first);
    }

    /// Not a test: the launcher that the next test kills.
    #[test]
    #[ignore = "the launcher process of `a_process_dies_with_a_launcher_that_is_killed`"]
    fn launcher() {
        let folder = std::env::current_dir().unwrap();
        let stubborn = Launch {
            ending: Ending {
                signal: Signal::TERM,
                bound: Duration::from_secs(1),
            },
            ..shell(
                &folder,
                "trap '' TERM; echo $$ >pid.part; mv pid.part pid; while :; do sleep 0.1; done",
            )
        };
        let _process = stubborn.spawn().unwrap();
        thread::sleep(Duration::from_mins(1));
    }

    #[test]
    fn a_process_dies_with_a_launcher_that_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let mut launcher = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process::tests::launcher", "--ignored"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let pid = loop {
            if let Ok(pid) = fs::read_to_string(folder.path().join("pid")) {
                break Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
            }
            assert!(Instant::now() < deadline, "the launcher started nothing");
            thread::sleep(Duration::from_millis(10));
        };
        launcher.kill().unwrap();
        launcher.wait().unwrap();
        // It ignores the first signal, so it lives for the bound and is killed then.
        while rustix::process::test_kill_process(pid).is_ok() {
            assert!(Instant::now() < deadline, "process {pid:?} outlived its launcher");
            thread::sleep(Duration::from_millis(10));
        }
    }
}
