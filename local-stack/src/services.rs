//! The marketplace's own services as processes, with the programs of this workspace.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;
use tokio::sync::OnceCell;

use crate::{
    Stack, cargo,
    environment::Environment,
    ports,
    process::Launch,
    progress::Progress,
    server::{Server, probe_http},
    tokens::{AUDIENCE, ISSUER, Signer},
};

/// The workspace this program was built in.
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const READY_BOUND: Duration = Duration::from_mins(1);

/// Programs of the workspace.
#[derive(Clone, Debug)]
pub struct Programs {
    pub trade_service: PathBuf,
    pub chat_service: PathBuf,
    pub connectors: PathBuf,
}

/// Builds the programs, once per process. All members of the workspace are selected and the profile is
/// our own, so what the build of this very program has compiled is not compiled again.
pub async fn programs(progress: &Progress) -> Result<&'static Programs> {
    static PROGRAMS: OnceCell<Result<Programs, String>> = OnceCell::const_new();
    let progress = progress.clone();
    let built = PROGRAMS
        .get_or_init(|| async {
            let built = tokio::task::spawn_blocking(move || build(&progress)).await;
            built
                .map_err(anyhow::Error::from)
                .flatten()
                .map_err(|error| format!("{error:#}"))
        })
        .await;
    built.as_ref().map_err(|reason| anyhow!("{reason}"))
}

fn build(progress: &Progress) -> Result<Programs> {
    let messages = cargo_build(&["trade-service", "chat-service", "connectors"], progress)?;
    Ok(Programs {
        trade_service: built_program(&messages, "trade-service")?,
        chat_service: built_program(&messages, "chat-service")?,
        connectors: built_program(&messages, "connectors")?,
    })
}

/// Builds one program, in the profile that this program has.
pub async fn program(name: &'static str, progress: &Progress) -> Result<PathBuf> {
    let progress = progress.clone();
    tokio::task::spawn_blocking(move || built_program(&cargo_build(&[name], &progress)?, name)).await?
}

/// Builds programs and answers cargo's messages.
fn cargo_build(names: &[&str], progress: &Progress) -> Result<String> {
    let program = Environment::read()?
        .cargo()
        .context("cargo is not on PATH: install it from https://rustup.rs")?;
    let own = std::env::current_exe()?;
    let (target, profile) =
        target_and_profile(&own).context("this program is not in a target folder of cargo")?;
    let log = target.join(format!("local-stack-build-{}.log", std::process::id()));
    let step = progress.step("Building the services");
    let launch = cargo::launch("cargo build", &program, Path::new(WORKSPACE), &log)
        .args([
            "build",
            "--message-format=json-render-diagnostics",
            "--profile",
            profile,
        ])
        .args(names.iter().flat_map(|name| ["--bin", *name]))
        .args(["--target-dir".into(), target.as_os_str().to_owned()]);
    launch.run(|| {
        if let Some((position, total)) = cargo::built(&log) {
            step.position(position, total);
        }
    })?;
    step.done();
    let messages = std::fs::read_to_string(&log)?;
    std::fs::remove_file(&log)?;
    Ok(messages)
}

/// `…/target/debug/deps/stack-47f8` → (`…/target`, `dev`).
fn target_and_profile(program: &Path) -> Option<(&Path, &str)> {
    let folder = program.parent()?;
    let folder = if ["deps", "examples"].iter().any(|name| folder.ends_with(name)) {
        folder.parent()?
    } else {
        folder
    };
    let profile = match folder.file_name()?.to_str()? {
        "debug" => "dev",
        other => other,
    };
    Some((folder.parent()?, profile))
}

fn built_program(log: &str, name: &str) -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        target: Target,
        executable: Option<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    // The log holds cargo's own lines too, also right before a message.
    log.lines()
        .filter_map(|line| serde_json::from_str::<Message>(&line[line.find('{')?..]).ok())
        .filter(|message| message.target.name == name)
        .find_map(|message| message.executable)
        .with_context(|| format!("cargo has built no program {name}"))
}

/// One process of a service: its environment on top of our own.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// Names its log file; every running process needs one of its own.
    pub name: String,
    pub env: BTreeMap<String, String>,
    /// Wait until it is ready for work, not only until it is alive.
    pub wait_until_ready: bool,
    pub progress: Progress,
    /// Kept over restarts, as is the other.
    pub port: u16,
    pub admin_port: u16,
}

impl ServiceOptions {
    /// trade-service on a database of the stack's PostgreSQL.
    pub fn trade(stack: &Stack, signer: &Signer, database: &str) -> Result<Self> {
        let options = Self::new("trade-service", signer)?;
        Ok(options.env("DATABASE_URL", stack.postgres.connection_url(database)))
    }

    /// chat-service on the stack's servers and the shipped connector's topics.
    pub fn chat(stack: &Stack, signer: &Signer) -> Result<Self> {
        let options = Self::new("chat-service", signer)?;
        Ok(options
            .env("MONGODB_URI", stack.mongo.uri())
            .env("MONGODB_DATABASE", "chat")
            .env("KAFKA_BOOTSTRAP_SERVERS", stack.kafka.bootstrap())
            .env("KAFKA_GROUP_ID", "chat-service")
            .env("TOPIC_PREFIX", "trade")
            // Tests, demo and load do in a second what members do in minutes.
            .env("SEND_RATE", "0")
            .env("ROOM_RATE", "0")
            .env("STREAM_RATE", "0")
            .env("SCHEMA_REGISTRY_URL", stack.registry.confluent_url()))
    }

    /// chat-service with its demo page, to be tried as the members in that file.
    #[must_use]
    pub fn demo(self, members: impl Into<String>) -> Self {
        // No name that begins with __Secure-: not every browser keeps such a cookie from http://127.0.0.1.
        self.env("DEMO", members).env("SESSION_COOKIE", "session")
    }

    fn new(program: &str, signer: &Signer) -> Result<Self> {
        let (port, admin_port) = (ports::free()?, ports::free()?);
        let options = Self {
            name: format!("{program}-{port}"),
            env: BTreeMap::new(),
            wait_until_ready: true,
            progress: Progress::for_tests(),
            port,
            admin_port,
        };
        Ok(options
            .env("LISTEN", format!("127.0.0.1:{port}"))
            .env("ADMIN_LISTEN", format!("127.0.0.1:{admin_port}"))
            .env("JWT_JWKS", signer.jwks_path().display().to_string())
            .env("JWT_ISSUER", ISSUER)
            .env("JWT_AUDIENCE", AUDIENCE))
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }
}

#[derive(Debug)]
pub struct Service {
    pub server: Server,
    url: String,
    admin_url: String,
}

impl Service {
    /// The base of its public API.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The base of its private listener.
    pub fn admin_url(&self) -> &str {
        &self.admin_url
    }

    async fn spawn(stack: &Stack, program: &Path, options: ServiceOptions) -> Result<Self> {
        let log = stack.log(&options.name)?;
        let mut launch = Launch::new(&options.name, program, stack.folder(), &log);
        launch.lasting = stack.is_lasting();
        for (name, value) in options.env {
            launch = launch.env(&name, value);
        }
        let url = format!("http://127.0.0.1:{}", options.port);
        let admin_url = format!("http://127.0.0.1:{}", options.admin_port);
        let path = if options.wait_until_ready {
            "readyz"
        } else {
            "livez"
        };
        let answers = probe_http(format!("{admin_url}/{path}"))?;
        let step = options.progress.step(format!("Starting {}", options.name));
        let server = Server::start(launch, [options.port, options.admin_port], READY_BOUND, answers).await?;
        step.done();
        Ok(Self {
            server,
            url,
            admin_url,
        })
    }
}

pub async fn spawn_trade(stack: &Stack, options: ServiceOptions) -> Result<Service> {
    let programs = programs(&options.progress).await?;
    Service::spawn(stack, &programs.trade_service, options).await
}

/// Known in its group by the name of its log, so that a quick restart moves no partitions.
pub async fn spawn_chat(stack: &Stack, mut options: ServiceOptions) -> Result<Service> {
    let instance = options.env.entry("KAFKA_GROUP_INSTANCE_ID".to_owned());
    instance.or_insert_with(|| options.name.clone());
    let programs = programs(&options.progress).await?;
    Service::spawn(stack, &programs.chat_service, options).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_folder_and_profile_are_those_of_the_running_program() {
        let of = |path| target_and_profile(Path::new(path)).unwrap();
        assert_eq!(of("/w/target/debug/local-stack"), (Path::new("/w/target"), "dev"));
        assert_eq!(
            of("/w/target/debug/deps/e2e-47f8"),
            (Path::new("/w/target"), "dev")
        );
        assert_eq!(
            of("/elsewhere/release/local-stack"),
            (Path::new("/elsewhere"), "release")
        );
    }

    #[test]
    fn programs_are_found_among_everything_else_that_cargo_says() {
        let log = concat!(
            "    Building [==> ] 1/2: x\r{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"trade-service\"},\"executable\":null}\n",
            "   Compiling trade-service v0.1.0\n",
            "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"trade-service\"},\"executable\":\"/t/trade-service\"}\n",
            "{\"reason\":\"build-finished\",\"success\":true}\n",
        );
        let found = built_program(log, "trade-service").unwrap();
        assert_eq!(found, Path::new("/t/trade-service"));
        built_program(log, "chat-service").unwrap_err();
    }
}
