//! The command line and the environment: all that can be set, and the only place it is read.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
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
    /// Most connections to PostgreSQL at a time
    #[arg(long, env = "DATABASE_CONNECTIONS", default_value_t = 10, value_name = "NUMBER",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub database_connections: u32,
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
