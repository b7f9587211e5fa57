//! What is shipped for the trade posts: the connector's configuration, and the names in it. Other
//! connectors are compared with it.

use crate::{Config, schemas::Table};

/// `connectors/trade-posts.json`.
const CONNECTOR: &str = include_str!("../trade-posts.json");

/// The connector's name when it is applied from that file.
pub const NAME: &str = "trade-posts";

/// Debezium's version that this was built and tested with; the one in `local-stack/pom.xml`.
pub const DEBEZIUM_VERSION: &str = "3.6.3.Final";

/// The captured table that chats are about.
pub const TABLE: &str = "public.trade_posts";

/// What members want to be told of.
pub const KEYWORDS: &str = "public.keywords";

/// What the connector writes itself. Captured, so that there is always a first change that tells whether it has begun
/// anew.
pub const HEARTBEATS: &str = "public.debezium_heartbeat";

/// The captured tables, and all of their columns that may leave the database.
pub const CAPTURED: [(&str, &[&str]); 3] = [
    (TABLE, &["id", "seller_id", "title", "status"]),
    (KEYWORDS, &["id", "member_id", "keyword"]),
    (HEARTBEATS, &["id", "beat_at"]),
];

/// The role in `connectors/postgres.sql`.
pub const ROLE: &str = "debezium";

/// The shipped configuration.
pub fn config() -> Config {
    serde_json::from_str(CONNECTOR).unwrap_or_default()
}

/// What a connector is called elsewhere, as its configuration says; what that leaves out is as shipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    pub slot: String,
    pub publication: String,
    pub topic_prefix: String,
    /// Of the trade posts.
    pub topic: String,
}

impl Names {
    pub fn of(connector: Option<&Config>) -> Self {
        let shipped = config();
        let setting = |key: &str| {
            let value = connector.and_then(|config| config.get(key));
            value.or_else(|| shipped.get(key)).cloned().unwrap_or_default()
        };
        let topic_prefix = setting("topic.prefix");
        Self {
            slot: setting("slot.name"),
            publication: setting("publication.name"),
            topic: Table::TradePosts.topic(&topic_prefix),
            topic_prefix,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_file_or_of_the_connector() {
        let shipped = Names::of(None);
        assert_eq!(shipped.topic, "trade.public.trade_posts");
        assert_eq!(
            (shipped.slot.as_str(), shipped.publication.as_str()),
            ("trade_cdc", "trade_cdc")
        );
        let other = Config::from([("topic.prefix".to_owned(), "other".to_owned())]);
        assert_eq!(Names::of(Some(&other)).topic, "other.public.trade_posts");
    }

    #[test]
    fn the_columns_are_those_of_the_file() {
        let (tables, columns): (Vec<_>, Vec<_>) = CAPTURED
            .iter()
            .map(|(table, columns)| {
                let pattern = format!("{}[.]({})", table.replace('.', "[.]"), columns.join("|"));
                (*table, pattern)
            })
            .unzip();
        assert!(config()["column.include.list"].starts_with(&columns.join(",")));
        assert_eq!(config()["table.include.list"], tables.join(","));
    }
}
