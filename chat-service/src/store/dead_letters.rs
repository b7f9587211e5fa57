//! `dead_letters`: records that could not be understood, kept whole.
//!
//! Invariant: one document per record, however often it is read. A topic that was removed and made
//! anew counts its offsets from 0 again, so the record's time belongs to what tells it apart.

use futures_util::TryStreamExt;
use mongodb::{
    bson::{Binary, DateTime, Document, doc, oid::ObjectId, spec::BinarySubtype},
    error::Result,
    options::{UpdateOneModel, WriteModel},
};
use serde::{Deserialize, Serialize};

use super::{Edge, Store, beyond};

/// What tells one record from another; the fields of a unique index.
pub const IDENTITY: [&str; 4] = ["topic", "partition", "offset", "timestamp"];

/// A record as it came, and why it is here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadLetter {
    #[serde(rename = "_id")]
    pub id: ObjectId,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// Kafka's timestamp of the record.
    pub timestamp: Option<DateTime>,
    pub key: Option<Binary>,
    pub value: Option<Binary>,
    pub headers: Vec<Header>,
    pub reason: String,
    pub created_at: DateTime,
}

/// A dead letter without its bytes, which may be a million times as large.
#[derive(Clone, Debug, Deserialize)]
pub struct Summary {
    #[serde(rename = "_id")]
    pub id: ObjectId,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub timestamp: Option<DateTime>,
    pub reason: String,
    pub created_at: DateTime,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Header {
    pub name: String,
    pub value: Option<Binary>,
}

/// `bytes` as MongoDB stores them.
pub fn binary(bytes: &[u8]) -> Binary {
    Binary {
        subtype: BinarySubtype::Generic,
        bytes: bytes.to_vec(),
    }
}

impl Store {
    /// Keeps `letters`, each once.
    pub async fn bury(&self, letters: &[DeadLetter]) -> Result<()> {
        if letters.is_empty() {
            return Ok(());
        }
        let models = letters
            .iter()
            .map(|letter| {
                let mut rest =
                    mongodb::bson::serialize_to_document(letter).map_err(mongodb::error::Error::custom)?;
                let identity: Document = IDENTITY
                    .into_iter()
                    .filter_map(|field| Some((field.to_owned(), rest.remove(field)?)))
                    .collect();
                let model = UpdateOneModel::builder()
                    .namespace(self.dead_letters.namespace())
                    .filter(identity)
                    .update(doc! { "$setOnInsert": rest })
                    .upsert(true)
                    .build();
                Ok(model.into())
            })
            .collect::<Result<Vec<WriteModel>>>()?;
        self.client.bulk_write(models).ordered(false).await.map(drop)
    }

    /// Dead letters in the order in which they were kept.
    pub async fn dead_letters(&self, edge: Option<Edge<ObjectId>>, limit: i64) -> Result<Vec<Summary>> {
        let (filter, order) = beyond(Document::new(), edge, 1);
        self.dead_letters
            .clone_with_type::<Summary>()
            .find(filter)
            .projection(doc! { "key": 0, "value": 0, "headers": 0 })
            .sort(doc! { "_id": order })
            .limit(limit)
            .await?
            .try_collect()
            .await
    }

    pub async fn dead_letter(&self, id: ObjectId) -> Result<Option<DeadLetter>> {
        self.dead_letters.find_one(doc! { "_id": id }).await
    }

    /// Removes a dead letter. Answers whether it was there.
    pub async fn remove_dead_letter(&self, id: ObjectId) -> Result<bool> {
        let removed = self.dead_letters.delete_one(doc! { "_id": id }).await?;
        Ok(removed.deleted_count > 0)
    }
}
