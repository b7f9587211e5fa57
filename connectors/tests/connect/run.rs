//! Runs the command `connectors`, without a terminal or on one.

use std::{
    io::Read,
    os::fd::OwnedFd,
    path::Path,
    process::{Command as Blocking, Stdio},
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tokio::process::Command;

pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Without a terminal.
pub async fn connectors(url: &str, arguments: &[&str]) -> Ended {
    connectors_with(&[("CONNECT_URL", url)], arguments).await
}

pub async fn connectors_with(environment: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_connectors"))
        .envs(environment.iter().copied())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// On a terminal, where `typed` is typed. Answers the exit code and all that stood on the terminal.
pub async fn on_a_terminal(
    environment: &[(&str, &str)],
    arguments: &[&str],
    typed: &'static str,
) -> (Option<i32>, String) {
    interrupted_on_a_terminal(environment, arguments, typed, "").await
}

/// The same, and Ctrl-C as soon as that stands there, if it is anything.
pub async fn interrupted_on_a_terminal(
    environment: &[(&str, &str)],
    arguments: &[&str],
    typed: &'static str,
    at: &str,
) -> (Option<i32>, String) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let end = |read, write| -> OwnedFd {
        let mut options = std::fs::OpenOptions::new();
        options.read(read).write(write);
        options.open(name.to_str().unwrap()).unwrap().into()
    };
    let mut child = Blocking::new(env!("CARGO_BIN_EXE_connectors"))
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .envs(environment.iter().copied())
        .args(arguments)
        .stdin(end(true, false))
        .stdout(end(false, true))
        .stderr(end(false, true))
        .spawn()
        .unwrap();
    let mut at = Some(at.to_owned()).filter(|at| !at.is_empty());
    tokio::task::spawn_blocking(move || {
        rustix::io::write(&terminal, typed.as_bytes()).unwrap();
        let mut terminal = std::fs::File::from(terminal);
        let (mut shown, mut part) = (Vec::new(), [0; 4096]);
        // Fails, instead of ending, when the last one has closed the terminal.
        while let Ok(read @ 1..) = terminal.read(&mut part) {
            shown.extend_from_slice(&part[..read]);
            let stands = |at: &String| String::from_utf8_lossy(&shown).contains(at.as_str());
            if at.as_ref().is_some_and(stands) {
                at = None;
                interrupt(child.id());
            }
        }
        let code = child.wait().unwrap().code();
        (code, String::from_utf8_lossy(&shown).into_owned())
    })
    .await
    .unwrap()
}

fn interrupt(pid: u32) {
    let pid = pid.to_string();
    let mut kill = Blocking::new("kill");
    assert!(kill.args(["-INT", &pid]).status().unwrap().success());
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
