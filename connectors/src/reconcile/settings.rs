//! What a connector's configuration says about how it can be asked for a snapshot.

use super::ReconcileError;
use crate::{Config, placeholder::unknown, schemas::Table};

/// What chat-service reads notifications from; the connector's topic prefix follows.
const NOTIFICATION_TOPIC: &str = "__debezium-notification.";

/// Of a connector that can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Schema and name of the table that signals are written to.
    pub signal_table: (String, String),
    pub publication: String,
    pub slot: String,
    /// Rows that Debezium reads at once.
    pub chunk_size: String,
    /// Tables that are captured.
    pub tables: Vec<Table>,
}

impl Settings {
    /// # Errors
    /// If a snapshot could not be asked for, or nobody would hear of it.
    pub fn of(connector: &str, config: &Config) -> Result<Self, ReconcileError> {
        let wrong = |setting: &'static str, problem: String| ReconcileError::Setting {
            connector: connector.to_owned(),
            setting,
            problem,
        };
        let text = |setting: &'static str| config.get(setting).map(String::as_str).unwrap_or_default();
        let list = |setting: &'static str| -> Vec<&str> { text(setting).split(',').map(str::trim).collect() };
        let included = list("table.include.list");
        let tables: Vec<Table> = Table::KEPT
            .into_iter()
            .filter(|table| included.contains(&table.name()))
            .collect();
        if !tables.contains(&Table::TradePosts) {
            let problem = format!("does not name {}", Table::TradePosts.name());
            return Err(wrong("table.include.list", problem));
        }
        if !list("notification.enabled.channels").contains(&"sink") {
            let problem = "does not name sink, so nobody hears how a snapshot goes".to_owned();
            return Err(wrong("notification.enabled.channels", problem));
        }
        for setting in ["slot.name", "publication.name", "topic.prefix"] {
            if let Some(why) = unknown(text(setting)) {
                return Err(wrong(setting, format!("is not known here: {why}")));
            }
        }
        let notifications = format!("{NOTIFICATION_TOPIC}{}", text("topic.prefix"));
        if text("notification.sink.topic.name") != notifications {
            let problem = format!("is not {notifications}, where chat-service listens");
            return Err(wrong("notification.sink.topic.name", problem));
        }
        let signals = text("signal.data.collection");
        let signal_table = signals
            .split_once('.')
            .filter(|(schema, table)| is_name(schema) && is_name(table))
            .map(|(schema, table)| (schema.to_owned(), table.to_owned()))
            .ok_or_else(|| {
                let problem =
                    format!("{signals:?} is not schema.table, so there is nowhere to write a signal to");
                wrong("signal.data.collection", problem)
            })?;
        Ok(Self {
            signal_table,
            publication: text("publication.name").to_owned(),
            slot: text("slot.name").to_owned(),
            chunk_size: match text("incremental.snapshot.chunk.size") {
                "" => "1024".to_owned(),
                size => size.to_owned(),
            },
            tables,
        })
    }
}

/// It becomes part of a statement.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> Config {
        serde_json::from_str(include_str!("../../trade-posts.json")).unwrap()
    }

    #[test]
    fn the_shipped_connector_can_be_asked() {
        let settings = Settings::of("trade-posts", &shipped()).unwrap();
        assert_eq!(settings.signal_table, ("public".into(), "debezium_signal".into()));
        assert_eq!(
            (settings.slot.as_str(), settings.chunk_size.as_str()),
            ("trade_cdc", "1024")
        );
        assert_eq!(settings.tables, Table::KEPT);
        let mut earlier = shipped();
        earlier.insert("table.include.list".to_owned(), "public.trade_posts".to_owned());
        let settings = Settings::of("trade-posts", &earlier).unwrap();
        assert_eq!(settings.tables, [Table::TradePosts]);
    }

    #[test]
    fn each_setting_that_is_needed_is_named() {
        for (setting, value) in [
            ("table.include.list", "public.other"),
            ("notification.enabled.channels", "log,jmx"),
            ("notification.sink.topic.name", "elsewhere"),
            ("signal.data.collection", ""),
            ("slot.name", "${env:SLOT}"),
            ("publication.name", "p_${env:PUBLICATION}"),
            ("topic.prefix", "${env:PREFIX}"),
            ("signal.data.collection", "public.signal; DROP TABLE trade_posts"),
        ] {
            let mut config = shipped();
            config.insert(setting.to_owned(), value.to_owned());
            let refused = Settings::of("trade-posts", &config).unwrap_err().to_string();
            assert!(
                refused.contains(setting) && refused.contains("connectors apply"),
                "{refused}"
            );
        }
    }
}
