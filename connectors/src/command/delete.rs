//! `connectors delete`: a connector goes; what it leaves behind in PostgreSQL is named, and dropped only if
//! that is asked for.

use std::time::Duration;

use anstream::{print, println};
use clap::Args;
use connectors::{
    Config, ConnectApi, ConnectError,
    database::{self, DatabaseError},
    leave, slot,
    status::Standing,
};
use sqlx::PgConnection;

use crate::{
    ask::confirm,
    cli::seconds,
    command::within,
    failure::Failure,
    present::{left_behind, slot_and_publication},
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    name: String,
    /// Drop its replication slot, too: what changes until another connector runs is never captured
    #[arg(long, requires = "database_url")]
    drop_slot: bool,
    /// Drop its publication, too
    #[arg(long, requires = "database_url")]
    drop_publication: bool,
    /// The captured database, as a user who may drop them
    #[arg(long, env = "TRADE_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Seconds to wait for each answer
    #[arg(long, default_value = "30", value_parser = seconds)]
    timeout: Duration,
}

pub(crate) async fn run(api: &ConnectApi, options: Options) -> Result<(), Failure> {
    let Options {
        name,
        drop_slot,
        drop_publication,
        database_url,
        yes,
        timeout,
    } = options;
    let not_found = || ConnectError::NotFound {
        connector: name.clone(),
    };
    let config = within(api, timeout, || api.config(&name))
        .await?
        .ok_or_else(not_found)?;
    let mut left = Left::of(&config);
    left.drop_slot = drop_slot;
    left.drop_publication = drop_publication;
    // What cannot be done is found before anything is.
    let mut database = None;
    if let Some(url) = database_url.filter(|_| drop_slot || drop_publication) {
        database = Some(database::connect(&url).await?);
    }
    if let Some(database) = database.as_mut().filter(|_| drop_slot) {
        left.check_slot(api, &name, database).await?;
    }
    confirm(&left.question(&name, &config), yes)?;
    if !within(api, timeout, || api.delete(&name)).await? {
        return Err(not_found().into());
    }
    println!("{name}: deleted");
    match &mut database {
        Some(database) => left.drop_from(database).await.map_err(DatabaseError::from)?,
        None => print!("{}", left_behind(&config)),
    }
    Ok(())
}

/// What is in PostgreSQL.
struct Left {
    slot: String,
    publication: String,
    drop_slot: bool,
    drop_publication: bool,
}

impl Left {
    fn of(config: &Config) -> Self {
        let setting = |key: &str, default: &str| config.get(key).map_or(default, String::as_str).to_owned();
        Self {
            slot: setting("slot.name", "debezium"),
            publication: setting("publication.name", "dbz_publication"),
            drop_slot: false,
            drop_publication: false,
        }
    }

    async fn check_slot(
        &self,
        api: &ConnectApi,
        name: &str,
        database: &mut PgConnection,
    ) -> Result<(), Failure> {
        let found = slot::read(database, &self.slot)
            .await
            .map_err(DatabaseError::from)?;
        let Some(found) = found else { return Ok(()) };
        let standing = api.status(name).await?.as_ref().map(Standing::of);
        let others = api.configs().await?.into_iter().filter(|(other, config)| {
            other != name && config.get("slot.name").is_some_and(|slot| *slot == self.slot)
        });
        let others: Vec<String> = others.map(|(other, _)| other).collect();
        leave::may_drop(&found, standing.as_ref(), &others)
            .map_err(|reason| Failure::Slot(reason.to_string()))
    }

    /// Names what stays behind, because that is what has to be thought of.
    fn question(&self, name: &str, config: &Config) -> String {
        let slot = (self.drop_slot, format!("the slot {}", self.slot));
        let publication = (
            self.drop_publication,
            format!("the publication {}", self.publication),
        );
        let (goes, stays): (Vec<_>, Vec<_>) = [slot, publication].into_iter().partition(|(drop, _)| *drop);
        let names =
            |parts: Vec<(bool, String)>| -> Vec<String> { parts.into_iter().map(|(_, name)| name).collect() };
        let drop = match names(goes).as_slice() {
            [] => String::new(),
            names => format!(", drop {}", names.join(" and ")),
        };
        let stays = match names(stays).as_slice() {
            [only] => format!(" {only} stays in PostgreSQL."),
            both @ [_, ..] if slot_and_publication(config).is_some() => {
                format!(" {} stay in PostgreSQL.", both.join(" and "))
            }
            _ => String::new(),
        };
        let stays = stays.replacen(" the", " The", 1);
        format!("Delete connector {name}{drop}? Changes are not captured until it is applied again.{stays}")
    }

    async fn drop_from(&self, database: &mut PgConnection) -> sqlx::Result<()> {
        let dropped = |there_was| if there_was { "dropped" } else { "not there" };
        let slot = if self.drop_slot {
            dropped(leave::drop_slot(database, &self.slot).await?)
        } else {
            "kept, and PostgreSQL keeps its write-ahead log for it"
        };
        println!("slot {}: {slot}", self.slot);
        let publication = if self.drop_publication {
            dropped(leave::drop_publication(database, &self.publication).await?)
        } else {
            "kept"
        };
        println!("publication {}: {publication}", self.publication);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_says_what_goes_and_what_stays() {
        let postgres = Config::from([
            ("slot.name".to_owned(), "s".to_owned()),
            ("publication.name".to_owned(), "p".to_owned()),
        ]);
        let question = |config: &Config, drop_slot, drop_publication| {
            let left = Left {
                drop_slot,
                drop_publication,
                ..Left::of(config)
            };
            left.question("x", config)
        };
        for (drop_slot, drop_publication, begin, end) in [
            (
                false,
                false,
                "Delete connector x? ",
                "The slot s and the publication p stay in PostgreSQL.",
            ),
            (
                true,
                false,
                "Delete connector x, drop the slot s? ",
                "The publication p stays in PostgreSQL.",
            ),
            (
                true,
                true,
                "Delete connector x, drop the slot s and the publication p? ",
                "until it is applied again.",
            ),
        ] {
            let asked = question(&postgres, drop_slot, drop_publication);
            assert!(asked.starts_with(begin) && asked.ends_with(end), "{asked}");
        }
        let other = question(&Config::new(), false, false);
        assert!(!other.contains("PostgreSQL"), "{other}");
    }
}
