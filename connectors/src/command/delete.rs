//! `connectors delete`: a connector goes; what it leaves behind in PostgreSQL is named, and dropped only if
//! that is asked for.

use std::time::Duration;

use anstream::{print, println};
use clap::Args;
use connectors::{
    ConnectApi, ConnectError,
    database::{self, DatabaseError},
    leave::{self, Keep},
    lifecycle::Stopped,
    slots::{Others, Owned},
    status::Standing,
};
use sqlx::PgConnection;

use crate::{
    ask::confirm, cli::seconds, command::within, failure::Failure, present::left_behind, progress::Progress,
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
    /// Seconds that each step may take
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
    let configs = within(api, timeout, || api.configs()).await?;
    let config = configs.get(&name).ok_or_else(not_found)?;
    let left = Owned::of(config).map(|owned| Left {
        others: owned.others(
            &name,
            configs.iter().map(|(name, config)| (name.as_str(), config)),
        ),
        owned,
        drop_slot,
        drop_publication,
    });
    // What cannot be done is found before anything is.
    let mut database = None;
    if let Some(url) = database_url.filter(|_| drop_slot || drop_publication) {
        let left = left.as_ref().ok_or_else(|| kept(&Keep::Nothing))?;
        left.is_its_own().map_err(|keep| kept(&keep))?;
        let database = database.insert(database::connect(&url).await?);
        left.can_be_dropped(api, &name, timeout, database).await?;
    }
    confirm(&question(&name, left.as_ref()), yes)?;
    let stopped = match (&left, &mut database) {
        (Some(left), Some(database)) if drop_slot => Some(left.let_go(api, &name, timeout, database).await?),
        _ => None,
    };
    match within(api, timeout, || api.delete(&name)).await {
        Ok(true) => println!("{name}: deleted"),
        Ok(false) => return Err(not_found().into()),
        Err(error) => {
            if let Some(stopped) = stopped {
                stopped.give_back(&error.to_string()).await?;
            }
            return Err(error.into());
        }
    }
    match (&left, &mut database) {
        (Some(left), Some(database)) => left.drop_from(database).await.map_err(DatabaseError::from)?,
        (Some(left), None) => print!("{}", left_behind(&left.owned, &left.others)),
        (None, _) => (),
    }
    Ok(())
}

fn kept(keep: &Keep) -> Failure {
    Failure::Kept(keep.to_string())
}

/// Names what stays behind, because that is what has to be thought of.
fn question(name: &str, left: Option<&Left<'_>>) -> String {
    let (mut goes, mut stays) = (Vec::new(), Vec::new());
    if let Some(left) = left {
        let mut add = |drop, what| if drop { goes.push(what) } else { stays.push(what) };
        add(left.drop_slot, format!("the slot {}", left.owned.slot));
        add(
            left.drop_publication,
            format!("the publication {}", left.owned.publication),
        );
    }
    let drop = match goes.as_slice() {
        [] => String::new(),
        names => format!(", drop {}", names.join(" and ")),
    };
    let stays = match stays.as_slice() {
        [] => String::new(),
        [only] => format!(" {only} stays in PostgreSQL."),
        both => format!(" {} stay in PostgreSQL.", both.join(" and ")),
    };
    let stays = stays.replacen(" the", " The", 1);
    format!("Delete connector {name}{drop}? Changes are not captured until it is applied again.{stays}")
}

/// What is in PostgreSQL.
struct Left<'a> {
    owned: Owned<'a>,
    others: Others,
    drop_slot: bool,
    drop_publication: bool,
}

impl Left<'_> {
    fn is_its_own(&self) -> Result<(), Keep> {
        let Self { owned, others, .. } = self;
        if self.drop_slot {
            leave::is_its_own("slot", owned.slot, &others.slot)?;
        }
        if self.drop_publication {
            leave::is_its_own("publication", owned.publication, &others.publication)?;
        }
        Ok(())
    }

    /// As far as PostgreSQL and Kafka Connect can say it before.
    async fn can_be_dropped(
        &self,
        api: &ConnectApi,
        name: &str,
        timeout: Duration,
        database: &mut PgConnection,
    ) -> Result<(), Failure> {
        if self.drop_slot {
            let slot = leave::droppable_slot(database, self.owned.slot).await;
            let slot = slot.map_err(DatabaseError::from)?.map_err(|keep| kept(&keep))?;
            let status = within(api, timeout, || api.status(name)).await?;
            let standing = status.as_ref().map(Standing::of);
            leave::may_drop(&slot, standing.as_ref()).map_err(|keep| kept(&keep))?;
        }
        if self.drop_publication {
            let publication = leave::droppable_publication(database, self.owned.publication).await;
            publication
                .map_err(DatabaseError::from)?
                .map_err(|keep| kept(&keep))?;
        }
        Ok(())
    }

    /// Stops the connector. Who reads through the slot then is not its reader, though it may look like it, such as
    /// that of a connector of another Kafka Connect.
    async fn let_go<'a>(
        &self,
        api: &'a ConnectApi,
        name: &'a str,
        timeout: Duration,
        database: &mut PgConnection,
    ) -> Result<Stopped<'a>, Failure> {
        let progress = Progress::new(name);
        let stopped = Stopped::stop(api, name, timeout, &mut |status| progress.show(status)).await?;
        let wait = timeout.min(leave::RELEASE_PATIENCE);
        let failure = match leave::still_read(database, self.owned.slot, wait).await {
            Ok(None) => return Ok(stopped),
            Ok(Some(reader)) => kept(&Keep::held_by(self.owned.slot, &reader)),
            Err(error) => DatabaseError::from(error).into(),
        };
        stopped.give_back(&failure.to_string()).await?;
        Err(failure)
    }

    async fn drop_from(&self, database: &mut PgConnection) -> sqlx::Result<()> {
        let Owned {
            slot, publication, ..
        } = self.owned;
        let dropped = |there_was| if there_was { "dropped" } else { "not there" };
        let seen = if self.drop_slot {
            dropped(leave::drop_slot(database, slot).await?)
        } else {
            "kept, and PostgreSQL keeps its write-ahead log for it"
        };
        println!("slot {slot}: {seen}");
        let seen = if self.drop_publication {
            dropped(leave::drop_publication(database, publication).await?)
        } else {
            "kept"
        };
        println!("publication {publication}: {seen}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use connectors::Config;

    use super::*;

    #[test]
    fn the_question_says_what_goes_and_what_stays() {
        let postgres = Config::from(
            [
                (
                    "connector.class",
                    "io.debezium.connector.postgresql.PostgresConnector",
                ),
                ("slot.name", "s"),
                ("publication.name", "p"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        let asked = |config: &Config, drop_slot, drop_publication| {
            let left = Owned::of(config).map(|owned| Left {
                owned,
                others: Others::default(),
                drop_slot,
                drop_publication,
            });
            question("x", left.as_ref())
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
            let asked = asked(&postgres, drop_slot, drop_publication);
            assert!(asked.starts_with(begin) && asked.ends_with(end), "{asked}");
        }
        let other = asked(&Config::new(), false, false);
        assert!(!other.contains("PostgreSQL"), "{other}");
    }
}
