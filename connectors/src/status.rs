//! A connector's state as Connect reports it, and what it means as a whole: a connector that is RUNNING
//! while its task has FAILED captures nothing, and so does one without tasks.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `GET /connectors/{name}/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub name: String,
    pub connector: Instance,
    pub tasks: Vec<Task>,
}

/// The connector itself, or one of its tasks, on the worker that has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub state: State,
    pub worker_id: String,
    /// The stack trace, if it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub id: u32,
    #[serde(flatten)]
    pub instance: Instance,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    Running,
    Paused,
    Stopped,
    Failed,
    Unassigned,
    Restarting,
    /// A state of a newer Connect.
    #[serde(untagged)]
    Other(String),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "RUNNING",
            Self::Paused => "PAUSED",
            Self::Stopped => "STOPPED",
            Self::Failed => "FAILED",
            Self::Unassigned => "UNASSIGNED",
            Self::Restarting => "RESTARTING",
            Self::Other(state) => state,
        })
    }
}

/// What the states of a connector and its tasks amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The connector runs, and at least one task, and all of them.
    Running,
    Failed,
    /// Paused or stopped on request; waiting would not help.
    Halted(State),
    /// Being started, moved or restarted.
    Changing,
}

impl Standing {
    pub fn of(status: &Status) -> Self {
        let all = || {
            status
                .tasks
                .iter()
                .map(|task| &task.instance)
                .chain([&status.connector])
        };
        if all().any(|instance| instance.state == State::Failed) {
            Self::Failed
        } else if matches!(status.connector.state, State::Paused | State::Stopped) {
            Self::Halted(status.connector.state.clone())
        } else if !status.tasks.is_empty() && all().all(|instance| instance.state == State::Running) {
            Self::Running
        } else {
            Self::Changing
        }
    }
}

/// A part of a connector that has failed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `connector` or `task 0`.
    pub part: String,
    pub worker: String,
    pub trace: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} FAILED on worker {}", self.part, self.worker)?;
        for cause in causes(&self.trace) {
            write!(f, "\n  {cause}")?;
        }
        Ok(())
    }
}

impl Status {
    pub fn failures(&self) -> Vec<Failure> {
        let connector = ("connector".to_owned(), &self.connector);
        let tasks = self
            .tasks
            .iter()
            .map(|task| (format!("task {}", task.id), &task.instance));
        [connector]
            .into_iter()
            .chain(tasks)
            .filter(|(_, instance)| instance.state == State::Failed)
            .map(|(part, instance)| Failure {
                part,
                worker: instance.worker_id.clone(),
                trace: instance.trace.clone().unwrap_or_default(),
            })
            .collect()
    }
}

impl fmt::Display for Status {
    /// `connector RUNNING, task 0 UNASSIGNED`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connector {}", self.connector.state)?;
        if self.tasks.is_empty() {
            f.write_str(", no task")?;
        }
        for task in &self.tasks {
            write!(f, ", task {} {}", task.id, task.instance.state)?;
        }
        Ok(())
    }
}

/// The messages of a Java stack trace without its frames. The first line is often only "An exception
/// occurred …"; the reason stands in the last "Caused by".
pub fn causes(trace: &str) -> Vec<&str> {
    let mut causes: Vec<&str> = Vec::new();
    for line in trace.lines().map(str::trim) {
        let frame = line.starts_with("at ") || (line.starts_with("... ") && line.ends_with(" more"));
        if !frame && !line.is_empty() && !causes.contains(&line) {
            causes.push(line);
        }
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(connector: &str, tasks: &[&str]) -> Status {
        let tasks: Vec<_> = (0..)
            .zip(tasks)
            .map(|(id, state): (u32, _)| serde_json::json!({"id": id, "state": state, "worker_id": "w:1"}))
            .collect();
        serde_json::from_value(serde_json::json!({
            "name": "trade-posts",
            "connector": {"state": connector, "worker_id": "w:1", "version": "3.6"},
            "tasks": tasks,
            "type": "source",
        }))
        .unwrap()
    }

    #[test]
    fn running_needs_a_task_and_all_of_them() {
        let standing = |connector, tasks: &[&str]| Standing::of(&status(connector, tasks));
        assert_eq!(standing("RUNNING", &["RUNNING"]), Standing::Running);
        assert_eq!(standing("RUNNING", &["RUNNING", "RUNNING"]), Standing::Running);
        assert_eq!(standing("RUNNING", &[]), Standing::Changing);
        assert_eq!(
            standing("RUNNING", &["RUNNING", "UNASSIGNED"]),
            Standing::Changing
        );
        assert_eq!(standing("RUNNING", &["RUNNING", "FAILED"]), Standing::Failed);
        assert_eq!(standing("FAILED", &[]), Standing::Failed);
        assert_eq!(standing("RESTARTING", &["RUNNING"]), Standing::Changing);
        assert_eq!(standing("PAUSED", &["PAUSED"]), Standing::Halted(State::Paused));
        assert_eq!(standing("STOPPED", &[]), Standing::Halted(State::Stopped));
        assert_eq!(standing("RUNNING", &["DREAMING"]), Standing::Changing);
    }

    #[test]
    fn a_state_that_is_not_known_keeps_its_name() {
        assert_eq!(
            status("RUNNING", &["DREAMING"]).to_string(),
            "connector RUNNING, task 0 DREAMING"
        );
    }

    #[test]
    fn causes_leave_the_frames_out() {
        let trace = "org.example.ConnectException: An exception occurred.\n\
                     \tat org.example.A.b(A.java:1)\n\tat org.example.C.d(C.java:2)\n\
                     Caused by: org.example.SqlException: ERROR: publication \"nope\" does not exist\n  \
                     Where: slot \"trade_cdc\"\n\tat org.example.E.f(E.java:3)\n\t... 12 more\n";
        assert_eq!(
            causes(trace),
            [
                "org.example.ConnectException: An exception occurred.",
                "Caused by: org.example.SqlException: ERROR: publication \"nope\" does not exist",
                "Where: slot \"trade_cdc\"",
            ]
        );
    }
}
