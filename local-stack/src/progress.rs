//! Tells people what takes time: bars on a terminal, plain lines elsewhere. Everything goes to standard
//! error, so that standard output stays free for results.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often a running step says in plain lines that it is still at it.
const REMINDER: Duration = Duration::from_secs(20);

type Output = Arc<Mutex<dyn Write + Send>>;

#[derive(Clone)]
pub struct Progress(Kind);

#[derive(Clone)]
enum Kind {
    Bars(MultiProgress),
    Lines { output: Output, silence: Duration },
}

impl Progress {
    /// Bars if standard error is a terminal, else a line when a step begins and when it ends.
    pub fn detect() -> Self {
        if io::stderr().is_terminal() {
            Self(Kind::Bars(MultiProgress::new()))
        } else {
            Self::lines(io::stderr(), Duration::ZERO)
        }
    }

    /// Lines only for steps that take long: what tests want to say about a cold start.
    pub fn for_tests() -> Self {
        Self::lines(io::stderr(), Duration::from_secs(5))
    }

    fn lines(output: impl Write + Send + 'static, silence: Duration) -> Self {
        Self(Kind::Lines {
            output: Arc::new(Mutex::new(output)),
            silence,
        })
    }

    /// Begins a step. It ends with [`Step::done`]; dropped without it, it was given up.
    pub fn step(&self, title: impl Into<String>) -> Step {
        let title = title.into();
        let started = Instant::now();
        let shown = match &self.0 {
            Kind::Bars(bars) => {
                let bar = bars.add(ProgressBar::new_spinner());
                bar.set_style(style("{spinner:.cyan} {prefix} {wide_msg} {elapsed}"));
                bar.set_prefix(title.clone());
                bar.enable_steady_tick(Duration::from_millis(100));
                Shown::Bar(bars.clone(), bar)
            }
            Kind::Lines { output, silence } => {
                Shown::Lines(Reminder::start(output.clone(), title.clone(), *silence))
            }
        };
        Step {
            title,
            started,
            shown,
            done: false,
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Bars(_) => "Progress::Bars",
            Kind::Lines { .. } => "Progress::Lines",
        })
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
}

#[derive(Debug)]
pub struct Step {
    title: String,
    started: Instant,
    shown: Shown,
    done: bool,
}

#[derive(Debug)]
enum Shown {
    Bar(MultiProgress, ProgressBar),
    Lines(Reminder),
}

impl Step {
    /// What the step is at, in a few words.
    pub fn message(&self, message: impl Into<String>) {
        match &self.shown {
            Shown::Bar(_, bar) => bar.set_message(message.into()),
            Shown::Lines(reminder) => reminder.set(message.into()),
        }
    }

    /// How much of how much is done.
    pub fn position(&self, position: u64, total: u64) {
        match &self.shown {
            Shown::Bar(_, bar) => {
                if bar.length() != Some(total) {
                    bar.set_style(style(
                        "{spinner:.cyan} {prefix} {bar:30.cyan} {pos}/{len} {wide_msg} {elapsed}",
                    ));
                    bar.set_length(total);
                }
                bar.set_position(position);
            }
            Shown::Lines(reminder) => reminder.set(format!("{position}/{total}")),
        }
    }

    pub fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        let outcome = if self.done { "done" } else { "given up" };
        let line = format!(
            "{}: {outcome} after {}",
            self.title,
            seconds(self.started.elapsed())
        );
        match &mut self.shown {
            Shown::Bar(bars, bar) => {
                bar.finish_and_clear();
                bars.remove(bar);
                // Not being able to say so is no reason to fail.
                let _ = bars.println(line);
            }
            Shown::Lines(reminder) => reminder.finish(&line),
        }
    }
}

/// A thread that prints a step's lines while its owner is busy.
#[derive(Debug)]
struct Reminder {
    message: Arc<Mutex<String>>,
    last_line: mpsc::Sender<String>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Reminder {
    fn start(output: Output, title: String, silence: Duration) -> Self {
        let message = Arc::new(Mutex::new(String::new()));
        let (last_line, ended) = mpsc::channel::<String>();
        let current = message.clone();
        let thread = thread::spawn(move || {
            if let Err(RecvTimeoutError::Disconnected) | Ok(_) = ended.recv_timeout(silence) {
                return;
            }
            let mut line = format!("{title} …");
            let started = Instant::now();
            loop {
                // A closed standard error is no reason to fail.
                let _ = writeln!(output.lock().unwrap_or_else(PoisonError::into_inner), "{line}");
                match ended.recv_timeout(REMINDER) {
                    Err(RecvTimeoutError::Timeout) => {
                        let message = current.lock().unwrap_or_else(PoisonError::into_inner);
                        line = format!("{title} … {message} ({})", seconds(silence + started.elapsed()));
                    }
                    Ok(last) => {
                        let _ = writeln!(output.lock().unwrap_or_else(PoisonError::into_inner), "{last}");
                        return;
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        });
        Self {
            message,
            last_line,
            thread: Some(thread),
        }
    }

    fn set(&self, message: String) {
        *self.message.lock().unwrap_or_else(PoisonError::into_inner) = message;
    }

    fn finish(&mut self, line: &str) {
        let _ = self.last_line.send(line.to_owned());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn a_step_is_one_line_at_its_beginning_and_one_at_its_end() {
        let written = Written::default();
        let progress = Progress::lines(written.clone(), Duration::ZERO);
        let step = progress.step("Fetching the servers");
        while written.text().is_empty() {
            thread::yield_now();
        }
        step.position(1, 2);
        step.done();
        drop(progress.step("Building"));

        let text = written.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "Fetching the servers …");
        assert!(
            lines[1].starts_with("Fetching the servers: done after "),
            "{text}"
        );
        assert!(
            !text.contains('\r') && !text.contains('\x1b'),
            "plain lines only: {text:?}"
        );
    }

    #[test]
    fn short_steps_are_silent_where_only_long_ones_matter() {
        let written = Written::default();
        Progress::lines(written.clone(), Duration::from_mins(1))
            .step("Starting PostgreSQL")
            .done();
        assert_eq!(written.text(), "");
    }
}
