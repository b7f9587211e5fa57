//! `reconciliations`: one document per repair of missed deletes, from asked for to done.
//!
//! Invariant: at most one has not ended. A state is left only by a write that says which one it leaves, so what is
//! read again, or done by two instances at once, moves nothing twice.

use futures_util::TryStreamExt;
use mongodb::{
    ClientSession,
    bson::{Bson, DateTime, Document, doc, oid::ObjectId},
    error::Result,
    options::ReturnDocument,
};
use serde::{Deserialize, Serialize};

use super::{Edge, Store, transaction::made_meanwhile};
use crate::{
    cdc::notification::Said,
    reconciliation::{Span, State, Table},
};

/// A reconciliation as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reconciliation {
    /// Also the id of the signal that asks Debezium for the snapshot.
    #[serde(rename = "_id")]
    pub id: String,
    #[serde(default)]
    pub table: Table,
    #[serde(flatten)]
    pub span: Span,
    pub state: State,
    /// Why it failed.
    #[serde(default)]
    pub reason: Option<String>,
    pub requested_at: DateTime,
    /// When its state became what it is.
    pub changed_at: DateTime,
    /// How far Debezium is in the table.
    #[serde(default)]
    pub last_key: Option<String>,
    #[serde(default)]
    pub maximum_key: Option<String>,
    /// Rows that the table has.
    #[serde(default)]
    pub rows: Option<i64>,
    /// What the group has to have read, by partition of the table's topic.
    #[serde(default)]
    pub ends: Option<Vec<End>>,
    /// Posts or keywords that were not shown.
    #[serde(default)]
    pub candidates: Option<i64>,
    /// What was closed or ended, of posts up to `closed_up_to`.
    #[serde(default)]
    pub closed: Closed,
    #[serde(default)]
    pub closed_up_to: i64,
    #[serde(default)]
    pub lease: Option<Lease>,
}

/// The offset behind the last record that a partition had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub partition: i32,
    pub offset: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    pub posts: i64,
    pub rooms: i64,
    #[serde(default)]
    pub keywords: i64,
}

#[derive(Deserialize)]
struct SpanOf {
    #[serde(default)]
    table: Table,
    #[serde(flatten)]
    span: Span,
}

/// Until when nobody but the owner may close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub owner: ObjectId,
    pub until: DateTime,
}

/// What became of the wish for a reconciliation.
#[derive(Debug)]
pub enum Begun {
    New(Reconciliation),
    /// Another one has not ended.
    Unfinished(Reconciliation),
    /// There was one with that id.
    Used,
}

/// What became of a step that an operator asked for.
#[derive(Debug)]
pub enum Moved {
    Done(Reconciliation),
    /// It is in a state from which that step does not lead.
    Elsewhere(Reconciliation),
    Unknown,
}

/// The one document of `latest_reconciliation`. Whoever begins one, of whichever table, writes it, so that of two one
/// begins anew.
const LATEST: &str = "trade_posts";

impl Store {
    /// Begins a reconciliation unless another one has not ended.
    pub async fn begin_reconciliation(
        &self,
        id: &str,
        table: Table,
        start_lsn: i64,
        now: DateTime,
    ) -> Result<Begun> {
        let new = Reconciliation {
            id: id.to_owned(),
            table,
            span: Span {
                start_lsn,
                end_lsn: None,
            },
            state: State::Waiting,
            reason: None,
            requested_at: now,
            changed_at: now,
            last_key: None,
            maximum_key: None,
            rows: None,
            ends: None,
            candidates: None,
            closed: Closed::default(),
            closed_up_to: 0,
            lease: None,
        };
        let mut transaction = self.transaction().await?;
        loop {
            transaction.begin().await?;
            let begun = self
                .begin_in(&mut transaction.session, &new)
                .await
                .map_err(made_meanwhile);
            if let Some(begun) = transaction.end(begun).await? {
                return Ok(begun);
            }
        }
    }

    async fn begin_in(&self, session: &mut ClientSession, new: &Reconciliation) -> Result<Begun> {
        let before = self
            .latest_reconciliation
            .find_one_and_update(doc! { "_id": LATEST }, doc! { "$set": { "id": &new.id } })
            .upsert(true)
            .return_document(ReturnDocument::Before)
            .session(&mut *session)
            .await?;
        if let Some(before) = before {
            let before = before.get_str("id").unwrap_or_default();
            let before = self.reconciliations.find_one(doc! { "_id": before });
            match before.session(&mut *session).await? {
                Some(before) if !before.state.has_ended() => {
                    let still = doc! { "$set": { "id": &before.id } };
                    self.latest_reconciliation
                        .update_one(doc! { "_id": LATEST }, still)
                        .session(session)
                        .await?;
                    return Ok(Begun::Unfinished(before));
                }
                _ => {}
            }
        }
        let same = self.reconciliations.find_one(doc! { "_id": &new.id });
        if same.session(&mut *session).await?.is_some() {
            return Ok(Begun::Used);
        }
        self.reconciliations.insert_one(new).session(session).await?;
        Ok(Begun::New(new.clone()))
    }

    /// The parts of the log of those of `table` that had begun before `lsn`.
    pub async fn reconciliations_begun(&self, table: Table, lsn: i64) -> Result<Vec<Span>> {
        let mut begun = self
            .reconciliations
            .clone_with_type::<SpanOf>()
            .find(doc! { "start_lsn": { "$lte": lsn } })
            .projection(doc! { "table": 1, "start_lsn": 1, "end_lsn": 1 })
            .await?;
        let mut spans = Vec::new();
        while let Some(of) = begun.try_next().await? {
            if of.table == table {
                spans.push(of.span);
            }
        }
        Ok(spans)
    }

    /// The newest first.
    pub async fn reconciliations(
        &self,
        edge: Option<Edge<(DateTime, String)>>,
        limit: i64,
    ) -> Result<Vec<Reconciliation>> {
        let beside = |order: &str, (at, id): (DateTime, String)| {
            doc! { "$or": [
                { "requested_at": { order: at } },
                { "requested_at": at, "_id": { order: id } },
            ] }
        };
        let (filter, order) = match edge {
            None => (Document::new(), -1),
            Some(Edge::After(key)) => (beside("$lt", key), -1),
            Some(Edge::Before(key)) => (beside("$gt", key), 1),
        };
        self.reconciliations
            .find(filter)
            .sort(doc! { "requested_at": order, "_id": order })
            .limit(limit)
            .await?
            .try_collect()
            .await
    }

    pub async fn reconciliation(&self, id: &str) -> Result<Option<Reconciliation>> {
        self.reconciliations.find_one(doc! { "_id": id }).await
    }

    /// The one that has not ended, if it is in `state`.
    pub async fn reconciliation_in(&self, state: State) -> Result<Option<Reconciliation>> {
        self.reconciliations
            .find_one(doc! { "state": state.name() })
            .await
    }

    /// Takes in what Debezium says of the snapshot `id`. Answers why the reconciliation has failed, if it has by
    /// that.
    pub async fn reconciliation_heard(&self, id: &str, said: &Said, now: DateTime) -> Result<Option<String>> {
        let mut heard = doc! { "state": State::Scanning.name() };
        if let Some(key) = &said.last_key {
            heard.extend(doc! { "last_key": key, "maximum_key": &said.maximum_key });
        }
        if let Some(rows) = said.rows {
            heard.insert("rows", rows);
        }
        // Each is told apart from what was read before by the state; most batches end here.
        let reading = doc! { "_id": id, "state": { "$in": names([State::Waiting, State::Scanning]) } };
        let heard = self
            .reconciliations
            .update_one(reading.clone(), doc! { "$set": heard });
        if heard.await?.matched_count == 0 {
            return Ok(None);
        }
        let mut failure = said.failure.clone();
        if said.completed && failure.is_none() {
            let mut scanned = reading.clone();
            scanned.insert("rows", doc! { "$ne": null });
            let set = doc! { "$set": { "state": State::Scanned.name(), "changed_at": now } };
            if self.reconciliations.update_one(scanned, set).await?.matched_count == 0 {
                failure = Some("the snapshot ended without having read the table".to_owned());
            }
        }
        let Some(reason) = failure else { return Ok(None) };
        let failed = doc! { "state": State::Failed.name(), "reason": &reason, "changed_at": now };
        let failed = self
            .reconciliations
            .update_one(reading, doc! { "$set": failed })
            .await?;
        Ok((failed.matched_count > 0).then_some(reason))
    }

    /// Kafka has everything that the snapshot read, the last of it before `end_lsn`.
    pub async fn drain_reconciliation(&self, id: &str, end_lsn: i64, now: DateTime) -> Result<Moved> {
        let set = doc! { "state": State::Draining.name(), "end_lsn": end_lsn, "changed_at": now };
        self.move_reconciliation(id, &[State::Scanned], set).await
    }

    pub async fn confirm_reconciliation(&self, id: &str, now: DateTime) -> Result<Moved> {
        let set = doc! { "state": State::Closing.name(), "changed_at": now };
        self.move_reconciliation(id, &[State::Ready], set).await
    }

    pub async fn cancel_reconciliation(&self, id: &str, now: DateTime) -> Result<Moved> {
        let set = doc! { "state": State::Cancelled.name(), "changed_at": now };
        self.move_reconciliation(id, &State::CANCELLABLE, set).await
    }

    /// The group has to read up to these offsets. The first who says so is heard.
    pub async fn drain_up_to(&self, id: &str, ends: &[End]) -> Result<()> {
        let ends: Vec<Bson> = ends
            .iter()
            .map(|end| doc! { "partition": end.partition, "offset": end.offset }.into())
            .collect();
        let unknown = doc! { "_id": id, "state": State::Draining.name(), "ends": null };
        let set = doc! { "$set": { "ends": ends } };
        self.reconciliations.update_one(unknown, set).await.map(drop)
    }

    /// Everything that was shown has taken effect. Answers whether that is news.
    pub async fn reconciliation_ready(&self, id: &str, candidates: i64, now: DateTime) -> Result<bool> {
        let set = doc! { "state": State::Ready.name(), "candidates": candidates, "changed_at": now };
        let moved = self.move_reconciliation(id, &[State::Draining], set).await?;
        Ok(matches!(moved, Moved::Done(_)))
    }

    async fn move_reconciliation(&self, id: &str, from: &[State], set: Document) -> Result<Moved> {
        let there = doc! { "_id": id, "state": { "$in": names(from.iter().copied()) } };
        let moved = self
            .reconciliations
            .find_one_and_update(there, doc! { "$set": set })
            .return_document(ReturnDocument::After)
            .await?;
        if let Some(moved) = moved {
            return Ok(Moved::Done(moved));
        }
        let elsewhere = self.reconciliation(id).await?;
        Ok(elsewhere.map_or(Moved::Unknown, Moved::Elsewhere))
    }
}

fn names(states: impl IntoIterator<Item = State>) -> Vec<&'static str> {
    states.into_iter().map(State::name).collect()
}
