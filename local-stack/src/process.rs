//! A process that cannot outlive the one that started it, however that one ends: every process runs
//! under a small shell script, the guard, which holds a pipe from us and takes the process down when
//! the pipe ends. No signal handler of ours, no thread and no async runtime has to be alive for that.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};

use crate::{account::Account, log};

const GUARD: &str = include_str!("guard.sh");
const RUN_GUARD: &str = r#"eval "$LOCAL_STACK_GUARD""#;
/// What a process gets to end in order.
pub(crate) const ORDERLY_END: Duration = Duration::from_secs(10);
/// What a process gets to end at once.
const QUICK_END: Duration = Duration::from_secs(2);

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
    /// Ends it at once, with only as much order as others need.
    pub(crate) quick_signal: Signal,
    /// What it gets to follow a signal before it is killed.
    pub(crate) bound: Duration,
    /// Its data is wanted again, so its guard ends it in order.
    pub(crate) lasting: bool,
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
            quick_signal: Signal::KILL,
            bound: ORDERLY_END,
            lasting: false,
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
        let log = log::open(&self.log, &self.name)?;
        let end = if self.lasting {
            self.stop_signal
        } else {
            self.quick_signal
        };
        let mut command = Command::new("/bin/sh");
        command
            // Handed over as a variable, the script does not fill every list of processes.
            .args(["-c", RUN_GUARD, "guard", signal_name(end)])
            .arg(self.bound.as_secs().to_string())
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
            quick_signal: self.quick_signal,
        })
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
            log::tail(&self.log)
        );
        Ok(())
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

/// A running process. Dropped, it ends at once.
#[derive(Debug)]
pub(crate) struct Process {
    guard: Child,
    /// Our end of the guard's pipe. Left in `guard`, waiting would close it, and the guard would act.
    _pipe: Option<ChildStdin>,
    pid: Pid,
    quick_signal: Signal,
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
        // If any of this fails, the end of the pipe makes the guard do it.
        let _ = self.signal(self.quick_signal);
        let deadline = Instant::now() + QUICK_END;
        while matches!(self.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        let _ = self.kill();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

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
            lasting: true,
            bound: Duration::from_secs(1),
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
