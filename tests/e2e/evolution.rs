//! The captured table changes: what leaves PostgreSQL then, what the connector does, and what chat-service makes of
//! it. One connector goes through all of it, in the order of the table in docs/operations.md, under the rule that
//! the registry is to have for its subjects (compatibility BACKWARD).

use std::{collections::BTreeSet, process::Stdio};

use connectors::{ConnectApi, lifecycle::restart};
use e2e::{eventually::eventually, world::World};
use local_stack::capture::Capture;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{BOUND, chat_about};

const BUYER: i64 = 2;
const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// The world, and how the table's text column is called by now.
struct Market<'a> {
    world: &'a mut World,
    body: &'static str,
}

impl Market<'_> {
    fn subject(&self) -> String {
        format!("{}-value", self.world.topic().name)
    }

    fn registry(&self) -> String {
        self.world.stack.registry.confluent_url()
    }

    /// By the owner of the tables.
    async fn sql(&self, statements: &'static str) {
        let done = sqlx::raw_sql(statements).execute(&self.world.sql).await;
        done.unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    async fn insert(&self) -> i64 {
        let insert = format!(
            "INSERT INTO trade_posts (seller_id, title, {}, price, category) VALUES ('1', '글', '본문', 1, '기타')
             RETURNING id",
            self.body
        );
        let insert = sqlx::query_scalar(sqlx::AssertSqlSafe(insert));
        insert.fetch_one(&self.world.sql).await.unwrap()
    }

    async fn delete(&self, post: i64) {
        let delete = sqlx::query("DELETE FROM trade_posts WHERE id = $1").bind(post);
        delete.execute(&self.world.sql).await.unwrap();
    }

    /// A post is created, becomes known, is chatted about and is deleted, and its chat goes with it.
    async fn works(&self, what: &str) {
        let post = self.insert().await;
        eventually(format!("{what}: the post is known"), BOUND, async || {
            match self.world.store.post(post).await.unwrap() {
                Some(_) => Ok(()),
                None => Err((self.task().await, self.dead_letters().await)),
            }
        })
        .await;
        let room = chat_about(self.world, post, BUYER, 1).await;
        self.delete(post).await;
        let buyer = self.world.member(BUYER);
        eventually(format!("{what}: the room goes"), BOUND, async || {
            match buyer.room(&room).await {
                Err(error) if error.status() == Some(reqwest::StatusCode::GONE) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    async fn no_room_is_left(&self) {
        eventually("no room is left", BOUND, async || {
            match self.world.count("rooms").await {
                0 => Ok(()),
                rooms => Err(rooms),
            }
        })
        .await;
    }

    /// How often the schema of values was changed.
    async fn versions(&self) -> usize {
        let url = format!("{}/subjects/{}/versions", self.registry(), self.subject());
        let versions: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        versions.as_array().unwrap_or_else(|| panic!("{versions}")).len()
    }

    /// Names of the columns in the newest schema.
    async fn columns(&self) -> Vec<String> {
        let columns = self.newest().await.into_iter();
        columns
            .map(|column| column["name"].as_str().unwrap().to_owned())
            .collect()
    }

    async fn type_of(&self, column: &str) -> Value {
        let columns = self.newest().await;
        let column = columns.iter().find(|known| known["name"] == column);
        column.unwrap_or_else(|| panic!("{columns:?}"))["type"].clone()
    }

    /// Columns in the newest schema.
    async fn newest(&self) -> Vec<Value> {
        let url = format!("{}/subjects/{}/versions/latest", self.registry(), self.subject());
        let latest: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        let schema: Value = serde_json::from_str(latest["schema"].as_str().unwrap()).unwrap();
        let row = &schema["fields"][0]["type"][1]["fields"];
        row.as_array().unwrap_or_else(|| panic!("{schema}")).clone()
    }

    async fn task(&self) -> (String, String) {
        let url = format!(
            "{}/connectors/{}/status",
            self.world.stack.connect.url(),
            self.world.name
        );
        let status: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let task = &status["tasks"][0];
        (text(&task["state"]), text(&task["trace"]))
    }

    async fn runs(&self) {
        let (state, trace) = self.task().await;
        assert_eq!(state, "RUNNING", "{trace}");
    }

    /// Waits until the registry's refusal has stopped the task.
    async fn stops(&self) {
        let trace = eventually("the task stops", BOUND, async || {
            let (state, trace) = self.task().await;
            if state == "FAILED" { Ok(trace) } else { Err(state) }
        })
        .await;
        assert!(trace.contains("Incompatible artifact"), "{trace}");
    }

    /// Lets the connector capture these columns, too.
    async fn capture(&self, columns: &str) {
        let mut capture = Capture::of_database(&self.world.name);
        let list = "column.include.list".to_owned();
        let columns = capture.config().unwrap()[&list].replace("|status", columns);
        capture.settings.insert(list, columns);
        let applied = local_stack::capture::apply_connector(self.world.stack, &capture).await;
        applied.unwrap();
    }

    async fn dead_letters(&self) -> Vec<Value> {
        let url = format!("{}/admin/v1/dead-letters?limit=100", self.world.chat.admin_url());
        let letters: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        letters["items"].as_array().unwrap().clone()
    }

    /// Waits until a record became a dead letter, and answers its reason.
    async fn dead_letter(&self) -> String {
        let letters = eventually("a dead letter", BOUND, async || {
            let letters = self.dead_letters().await;
            if letters.is_empty() {
                Err(self.task().await)
            } else {
                Ok(letters)
            }
        })
        .await;
        letters[0]["reason"].as_str().unwrap().to_owned()
    }

    async fn discard_dead_letters(&self) {
        let http = reqwest::Client::new();
        for letter in self.dead_letters().await {
            let id = letter["id"].as_str().unwrap();
            let url = format!("{}/admin/v1/dead-letters/{id}", self.world.chat.admin_url());
            assert!(http.delete(url).send().await.unwrap().status().is_success());
        }
    }

    /// Has Debezium read the rows again, as they are now.
    async fn read_again(&self) {
        let again = r#"INSERT INTO debezium_signal VALUES (gen_random_uuid(), 'execute-snapshot',
            '{"data-collections": ["public.trade_posts"], "type": "incremental"}')"#;
        self.sql(again).await;
    }

    async fn set_compatibility(&self, level: &str) {
        let url = format!("{}/config/{}", self.registry(), self.subject());
        let set = reqwest::Client::new()
            .put(url)
            .json(&json!({ "compatibility": level }));
        let answer = set.send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_of_the_table_does_what_the_operators_are_told() {
    World::run(async |world| {
        world.wanted_errors.push("record kept as a dead letter");
        let mut market = Market { world, body: "body" };
        market.works("before anything changes").await;
        market.set_compatibility("BACKWARD").await;
        what_is_not_captured(&mut market).await;
        what_is_captured_besides(&market).await;
        a_needed_column_goes(&market).await;
        a_needed_column_is_retyped(&market).await;
        assert_eq!(market.world.orphans().await, (vec![], vec![]));
    })
    .await;
}

/// Columns that are not captured come, go and change, and nobody sees it.
async fn what_is_not_captured(market: &mut Market<'_>) {
    let versions = market.versions().await;
    for change in [
        "ALTER TABLE trade_posts ADD COLUMN note text",
        "ALTER TABLE trade_posts ADD COLUMN views int NOT NULL DEFAULT 0",
        "ALTER TABLE trade_posts RENAME COLUMN body TO description",
        "ALTER TABLE trade_posts DROP COLUMN image_urls",
        "ALTER TABLE trade_posts ALTER COLUMN price TYPE numeric(12)",
    ] {
        market.sql(change).await;
        if change.contains("description") {
            market.body = "description";
        }
        market.works(change).await;
    }
    // Captured, and a text all the same.
    let varchar = "ALTER TABLE trade_posts ALTER COLUMN title TYPE varchar(100)";
    market.sql(varchar).await;
    market.works(varchar).await;
    assert_eq!(market.versions().await, versions, "no new schema");
    assert_eq!(market.columns().await, ["id", "seller_id", "title", "status"]);
    market.runs().await;
    assert_eq!(market.dead_letters().await, [] as [Value; 0]);
}

/// A column is added to the capture, and widened.
async fn what_is_captured_besides(market: &Market<'_>) {
    let versions = market.versions().await;
    market
        .sql("GRANT SELECT (views) ON trade_posts TO debezium")
        .await;
    market.capture("|status|views").await;
    market.works("one more column").await;
    let columns = market.columns().await;
    assert_eq!(columns, ["id", "seller_id", "title", "status", "views"]);
    assert_eq!(market.versions().await, versions + 1);
    let bigint = "ALTER TABLE trade_posts ALTER COLUMN views TYPE bigint";
    market.sql(bigint).await;
    market.works(bigint).await;
    assert_eq!(market.versions().await, versions + 2, "a wider number");

    // Who reads what was written before has no value for a column that cannot be null.
    market
        .sql(
            "ALTER TABLE trade_posts ADD COLUMN likes int;
             UPDATE trade_posts SET likes = 0;
             ALTER TABLE trade_posts ALTER COLUMN likes SET NOT NULL;
             GRANT SELECT (likes) ON trade_posts TO debezium",
        )
        .await;
    market.capture("|status|views|likes").await;
    let insert = "INSERT INTO trade_posts (seller_id, title, description, price, category, likes)
                  VALUES (1, '글', '본문', 1, '기타', 1) RETURNING id";
    let waits: i64 = sqlx::query_scalar(insert)
        .fetch_one(&market.world.sql)
        .await
        .unwrap();
    market.stops().await;
    market
        .sql("ALTER TABLE trade_posts ALTER COLUMN likes SET DEFAULT 0")
        .await;
    let connect = ConnectApi::new(market.world.stack.connect.url()).unwrap();
    restart(&connect, &market.world.name, true, BOUND, |_| ())
        .await
        .unwrap();
    market.world.known(&[waits], BOUND).await;
    market.works("a default").await;
    market.runs().await;
    assert_eq!(market.dead_letters().await, [] as [Value; 0]);
}

/// Without a column that is needed rows are dead letters, and deletes are not. Once it is there again, the rows
/// are read again.
async fn a_needed_column_goes(market: &Market<'_>) {
    let [renamed, deleted] = [market.insert().await, market.insert().await];
    market.world.known(&[renamed, deleted], BOUND).await;
    chat_about(market.world, deleted, BUYER, 1).await;
    market
        .sql("ALTER TABLE trade_posts RENAME COLUMN title TO subject")
        .await;
    market.sql("UPDATE trade_posts SET subject = '다른 글'").await;
    let reason = market.dead_letter().await;
    assert!(reason.contains("title"), "the reason names the column: {reason}");
    assert!(!market.columns().await.contains(&"title".to_owned()));
    // A delete needs no column but the key.
    market.delete(deleted).await;
    market.no_room_is_left().await;
    market
        .sql("ALTER TABLE trade_posts RENAME COLUMN subject TO title")
        .await;
    market.works("under its name again").await;

    market.sql("ALTER TABLE trade_posts DROP COLUMN title").await;
    let lacking: i64 = sqlx::query_scalar(
        "INSERT INTO trade_posts (seller_id, description, price, category) VALUES (1, '본문', 1, '기타')
         RETURNING id",
    )
    .fetch_one(&market.world.sql)
    .await
    .unwrap();
    eventually("another dead letter", BOUND, async || {
        let letters = market.dead_letters().await;
        if letters.len() >= 3 { Ok(()) } else { Err(letters) }
    })
    .await;
    market.runs().await;
    market
        .sql(
            // The grant went with the column.
            "ALTER TABLE trade_posts ADD COLUMN title text NOT NULL DEFAULT '제목 없음';
             GRANT SELECT (title) ON trade_posts TO debezium",
        )
        .await;
    market.read_again().await;
    for post in [renamed, lacking] {
        eventually("the rows are read again", BOUND, async || {
            let post = market.world.store.post(post).await.unwrap();
            match post.and_then(|post| post.title) {
                Some(title) if title == "제목 없음" => Ok(()),
                title => Err((title, market.task().await)),
            }
        })
        .await;
    }
    market.discard_dead_letters().await;
    market.works("behind a snapshot").await;
    assert_eq!(market.dead_letters().await, [] as [Value; 0]);
}

/// A change that the registry refuses stops the task. What operators do then is in docs/operations.md, and is
/// done here as it is written there.
async fn a_needed_column_is_retyped(market: &Market<'_>) {
    let kept = market.insert().await;
    let doomed = market.insert().await;
    market.world.known(&[kept, doomed], BOUND).await;
    let room = chat_about(market.world, doomed, BUYER, 1).await;
    market
        .sql(
            "ALTER TABLE trade_posts DROP CONSTRAINT trade_posts_seller_id_check;
             ALTER TABLE trade_posts ALTER COLUMN seller_id TYPE text",
        )
        .await;
    let unread = market.insert().await;
    market.stops().await;
    market.delete(doomed).await;
    assert_eq!(
        market.dead_letters().await,
        [] as [Value; 0],
        "nothing of it was published"
    );

    let steps = runbook("### When a change has stopped the task");
    assert!(steps.len() >= 5, "{steps:?}");
    for step in &steps {
        println!("{}", step.text);
        match step.language {
            "sql" => {
                let mut superuser = market
                    .world
                    .stack
                    .postgres
                    .superuser(&market.world.name)
                    .await
                    .unwrap();
                let statements = sqlx::AssertSqlSafe(step.text.clone());
                let done = sqlx::raw_sql(statements).execute(&mut superuser);
                let done = tokio::time::timeout(BOUND, done).await;
                done.expect("a step done in time").unwrap();
            }
            "sh" => shell(market, &step.text).await,
            other => panic!("a step in {other}"),
        }
    }

    market.world.known(&[kept, unread], BOUND).await;
    let buyer = market.world.member(BUYER);
    eventually("what was deleted meanwhile goes", BOUND, async || {
        match buyer.room(&room).await {
            Err(error) if error.status() == Some(reqwest::StatusCode::GONE) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    market.works("after the runbook").await;
    let type_of_seller = market.type_of("seller_id").await;
    assert_eq!(type_of_seller, "long", "the newest version is the right one");
    market.runs().await;
    assert_eq!(market.dead_letters().await, [] as [Value; 0]);
    let url = format!("{}/config/{}", market.registry(), market.subject());
    let rule: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    assert_eq!(rule["compatibilityLevel"], "BACKWARD", "{rule}");
}

#[derive(Debug)]
struct Step {
    language: &'static str,
    text: String,
}

/// The fenced blocks below a heading, in their order.
fn runbook(heading: &str) -> Vec<Step> {
    let (_, section) = OPERATIONS.split_once(heading).expect("the runbook");
    let section = section.split("\n#").next().unwrap_or_default();
    let blocks = section.split("```").skip(1).step_by(2);
    blocks
        .map(|block| {
            let (language, text) = block.split_once('\n').expect("a language");
            Step {
                language,
                text: text.to_owned(),
            }
        })
        .collect()
}

async fn shell(market: &Market<'_>, script: &str) {
    let done = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .env("CONNECT", market.world.stack.connect.url())
        .env("CONNECTOR", &market.world.name)
        .env("REGISTRY", market.registry())
        .env("SUBJECT", market.subject())
        .env("CHAT_ADMIN", market.world.chat.admin_url())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let done = tokio::time::timeout(BOUND, done)
        .await
        .unwrap_or_else(|_| panic!("not done in time: {script}"))
        .unwrap();
    assert!(done.status.success(), "{script}: {done:?}");
}

#[test]
fn the_runbook_has_steps_of_both_kinds() {
    let steps = runbook("### When a change has stopped the task");
    let languages: BTreeSet<&str> = steps.iter().map(|step| step.language).collect();
    assert_eq!(languages, BTreeSet::from(["sh", "sql"]));
}
