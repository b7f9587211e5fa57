//! What PostgreSQL says it has done, read from its log.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use serde_json::Value;
use sqlx::AssertSqlSafe;

/// Follows the log of PostgreSQL.
pub(crate) struct Plans {
    log: PathBuf,
    read: u64,
}

/// What the statements of one request have done together.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) statements: usize,
    /// Read from tables and looked at, whether or not they were of use.
    pub(crate) rows: f64,
    /// Pages of tables and indexes.
    pub(crate) pages: f64,
    /// Tables that were read from begin to end.
    pub(crate) whole: Vec<String>,
    /// For people.
    pub(crate) indexes: Vec<String>,
}

impl Plans {
    /// Has PostgreSQL log the plan of every statement in that database, from the next connection on.
    pub(crate) async fn of(database: &str) -> Self {
        let postgres = local_stack::testing::postgres().await;
        let mut superuser = postgres.superuser(database).await.unwrap();
        for setting in [
            "session_preload_libraries = 'auto_explain'",
            "auto_explain.log_min_duration = 0",
            "auto_explain.log_analyze = on",
            "auto_explain.log_timing = off",
            "auto_explain.log_buffers = on",
            "auto_explain.log_format = json",
        ] {
            let sql = format!("ALTER DATABASE {database} SET {setting}");
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(&mut superuser)
                .await
                .unwrap();
        }
        let log = postgres.server.log().to_owned();
        let read = log.metadata().unwrap().len();
        Self { log, read }
    }

    /// How statements are planned from the next connection on.
    pub(crate) async fn mode(database: &str, mode: &str) {
        let postgres = local_stack::testing::postgres().await;
        let mut superuser = postgres.superuser(database).await.unwrap();
        let sql = format!("ALTER DATABASE {database} SET plan_cache_mode = {mode}");
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut superuser)
            .await
            .unwrap();
    }

    /// What has been done about posts since it was asked last.
    pub(crate) fn work(&mut self) -> Work {
        let mut file = File::open(&self.log).unwrap();
        file.seek(SeekFrom::Start(self.read)).unwrap();
        let mut text = String::new();
        self.read += file.read_to_string(&mut text).unwrap() as u64;
        let mut work = Work::default();
        for entry in text.split("plan:\n").skip(1) {
            let lines = entry.lines().take_while(|line| line.starts_with('\t'));
            let plan: Value = serde_json::from_str(&lines.collect::<String>()).unwrap();
            if plan["Query Text"].as_str().unwrap().contains("trade_post") {
                work.statements += 1;
                let blocks = ["Shared Hit Blocks", "Shared Read Blocks"];
                work.pages += blocks
                    .iter()
                    .map(|blocks| number(&plan["Plan"][blocks]))
                    .sum::<f64>();
                work.add(&plan["Plan"]);
            }
        }
        work
    }
}

impl Work {
    fn add(&mut self, node: &Value) {
        let kind = node["Node Type"].as_str().unwrap();
        let loops = number(&node["Actual Loops"]);
        if node["Relation Name"].is_string() && loops > 0.0 {
            let looked_at = [
                "Actual Rows",
                "Rows Removed by Filter",
                "Rows Removed by Index Recheck",
            ];
            self.rows += loops * looked_at.iter().map(|rows| number(&node[rows])).sum::<f64>();
            if kind == "Seq Scan" {
                self.whole.push(node["Relation Name"].to_string());
            }
        }
        if let Some(index) = node["Index Name"].as_str() {
            self.indexes
                .push(index.trim_start_matches("trade_posts_").to_owned());
        }
        for child in node["Plans"].as_array().into_iter().flatten() {
            self.add(child);
        }
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}
