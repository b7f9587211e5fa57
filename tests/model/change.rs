//! Changes of the table: by its sellers over REST, or by an operator in SQL. One transaction after the
//! other, so that what the table was at any time is known.

use std::time::Instant;

use serde_json::json;
use sqlx::{Postgres, Transaction};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{operation::Change, run::Round};

const STATUSES: [&str; 3] = ["on_sale", "reserved", "sold"];

impl Round<'_> {
    pub async fn change_table(&self, mut transactions: UnboundedReceiver<(Vec<Change>, bool)>) {
        while let Some((changes, by_seller)) = transactions.recv().await {
            match changes[..] {
                [change] if by_seller && self.by_seller(change).await => {}
                _ => self.by_operator(&changes).await,
            }
            self.note(format!("committed: {changes:?}"));
        }
    }

    /// Answers whether it is one that sellers make.
    async fn by_seller(&self, change: Change) -> bool {
        let at = Instant::now();
        match change {
            Change::Insert { id, seller } => {
                let (id, seller) = (self.id(id), self.id(seller));
                if self.history().table.at(id).is_some() {
                    return true;
                }
                let title = self.history().table.insert(id, seller, at);
                let next = "SELECT setval(pg_get_serial_sequence('trade_posts', 'id'), $1, false)";
                let next = sqlx::query(next).bind(id).execute(&self.arena.world.sql).await;
                next.expect("PostgreSQL sets the next id");
                let post =
                    json!({ "title": title, "body": "상태 좋아요", "price": 30_000, "category": "기타" });
                let post = self.arena.world.member(seller).create_post(&post).await;
                assert_eq!(post.expect("the post is created").id, id);
            }
            Change::Update { id, title, status } => {
                let id = self.id(id);
                let (title, seller) = {
                    let table = &mut self.history().table;
                    let Some((seller, before)) = table.at(id).map(|row| (row.seller, row.status)) else {
                        return true;
                    };
                    // What a seller can say of a status; the rest comes about in other ways.
                    if !matches!(
                        (before, STATUSES[status]),
                        (_, "on_sale") | ("reserved", "reserved") | ("reserved" | "sold", "sold")
                    ) {
                        return false;
                    }
                    (table.update(id, title, STATUSES[status]), seller)
                };
                let changes = json!({ "title": title, "status": STATUSES[status] });
                let patched = self.arena.world.member(seller).patch_post(id, &changes).await;
                patched.expect("the post is changed");
            }
            Change::Delete { id } => {
                let id = self.id(id);
                let Some(seller) = self.history().table.at(id).map(|row| row.seller) else {
                    return true;
                };
                self.history().table.delete(id, at);
                let deleted = self.arena.world.member(seller).delete_post(id).await;
                deleted.expect("the post is deleted");
            }
            Change::Rename { .. } | Change::Truncate => return false,
        }
        true
    }

    pub async fn by_operator(&self, changes: &[Change]) {
        let at = Instant::now();
        let transaction = self.arena.world.sql.begin().await;
        let mut transaction = transaction.expect("PostgreSQL begins a transaction");
        for change in changes {
            self.change_in(&mut transaction, *change, at)
                .await
                .expect("PostgreSQL makes the change");
        }
        transaction.commit().await.expect("PostgreSQL commits");
    }

    /// Changes nothing where the change does not apply.
    async fn change_in(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        change: Change,
        at: Instant,
    ) -> sqlx::Result<()> {
        let is_there = |id| self.history().table.at(id).is_some();
        let statement = match change {
            Change::Insert { id, seller } => {
                let (id, seller) = (self.id(id), self.id(seller));
                if is_there(id) {
                    return Ok(());
                }
                let title = self.history().table.insert(id, seller, at);
                sqlx::query("INSERT INTO trade_posts (id, seller_id, title, body, price, category) VALUES ($1, $2, $3, '', 1, 'c')")
                    .bind(id)
                    .bind(seller)
                    .bind(title)
            }
            Change::Update { id, title, status } => {
                let id = self.id(id);
                let Some(title) = self.history().table.update(id, title, STATUSES[status]) else {
                    return Ok(());
                };
                sqlx::query("UPDATE trade_posts SET title = $2, status = $3 WHERE id = $1")
                    .bind(id)
                    .bind(title)
                    .bind(STATUSES[status])
            }
            Change::Delete { id } => {
                let id = self.id(id);
                self.history().table.delete(id, at);
                sqlx::query("DELETE FROM trade_posts WHERE id = $1").bind(id)
            }
            Change::Rename { from, to } => {
                let (from, to) = (self.id(from), self.id(to));
                if !is_there(from) || is_there(to) {
                    return Ok(());
                }
                self.history().table.change_id(from, to, at);
                sqlx::query("UPDATE trade_posts SET id = $2 WHERE id = $1")
                    .bind(from)
                    .bind(to)
            }
            Change::Truncate => {
                self.history().table.truncate(at);
                sqlx::query("TRUNCATE trade_posts CASCADE")
            }
        };
        statement.execute(&mut **transaction).await.map(drop)
    }
}
