//! The command line and the environment: all that can be set, and the only place it is read.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Parser};
use secrecy::SecretString;
use service_kit::auth::AuthConfig;
use service_kit::origin::Origins;
use service_kit::telemetry::LogConfig;

/// The REST API of the marketplace's trade posts.
#[derive(Clone, Debug, Parser)]
#[command(name = "trade-service", version)]
pub struct Config {
    /// Address of the public API
    #[arg(
        long,
        env = "LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS"
    )]
    pub listen: SocketAddr,
    /// Address of /livez, /readyz and /metrics; keep it private
    #[arg(
        long,
        env = "ADMIN_LISTEN",
        default_value = "127.0.0.1:8081",
        value_name = "ADDRESS"
    )]
    pub admin_listen: SocketAddr,
    /// PostgreSQL, as postgres://user:password@host:port/database. The user must own the database:
    /// the service creates and migrates its tables at start
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: SecretString,
    #[command(flatten)]
    pub database: DatabaseLimits,
    /// How many seconds requests in flight get to finish at shutdown
    #[arg(long, env = "DRAIN_SECONDS", default_value = "10", value_name = "SECONDS", value_parser = seconds)]
    pub drain: Duration,
    #[command(flatten)]
    pub origins: Origins,
    #[command(flatten)]
    pub auth: AuthConfig,
    #[command(flatten)]
    pub log: LogConfig,
}

/// How much of PostgreSQL requests may use, and how long they wait for it.
#[derive(Clone, Copy, Debug, Args)]
pub struct DatabaseLimits {
    /// Most connections to PostgreSQL at a time
    #[arg(long = "database-connections", env = "DATABASE_CONNECTIONS", default_value_t = 10, value_name = "NUMBER",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub connections: u32,
    /// Most requests that wait for a connection; one more is answered with 503 at once
    #[arg(long = "database-waiting", env = "DATABASE_WAITING", default_value_t = 100, value_name = "NUMBER",
          value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub waiting: u32,
    /// How long a request waits for a connection before it is answered with 503
    #[arg(long = "database-acquire-timeout", env = "DATABASE_ACQUIRE_TIMEOUT", default_value = "2s",
          value_name = "DURATION", value_parser = positive)]
    pub acquire: Duration,
    /// How long PostgreSQL may take for one statement before it cancels it and the request is answered with 503;
    /// and for those of a list together, which ends its page with what was found
    #[arg(long = "database-statement-timeout", env = "DATABASE_STATEMENT_TIMEOUT", default_value = "2s",
          value_name = "DURATION", value_parser = positive)]
    pub statement: Duration,
    /// How long a statement may wait for a row that another one holds before the request is answered with 503
    #[arg(long = "database-lock-timeout", env = "DATABASE_LOCK_TIMEOUT", default_value = "1s",
          value_name = "DURATION", value_parser = positive)]
    pub lock: Duration,
    /// How long a request may take, from the end of its body and the check of its token to the answer, before it is
    /// given up with 503
    #[arg(long = "request-timeout", env = "REQUEST_TIMEOUT", default_value = "4s",
          value_name = "DURATION", value_parser = positive)]
    pub request: Duration,
}

/// PostgreSQL counts milliseconds, and takes 0 for no limit.
fn positive(text: &str) -> Result<Duration, String> {
    match service_kit::duration::parse(text)? {
        Duration::ZERO => Err("must be at least 1ms".to_owned()),
        long if long > Duration::from_mins(10) => Err("must be at most 10m".to_owned()),
        duration => Ok(duration),
    }
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Config::command().debug_assert();
    }

    #[test]
    fn a_limit_of_no_time_is_none_and_refused() {
        assert_eq!(positive("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["0s", "11m", "2"] {
            assert!(positive(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_password_is_not_in_the_debug_output() {
        let config = Config::parse_from([
            "trade-service",
            "--database-url=postgres://trade:hunter2@localhost/trade",
            "--jwt-jwks=jwks.json",
            "--jwt-issuer=issuer",
            "--jwt-audience=marketplace",
        ]);
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
