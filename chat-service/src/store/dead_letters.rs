//! `dead_letters`: records that could not be understood, kept whole.
//!
//! Invariant: one document per record, however often it is read.

use mongodb::{
    bson::{Binary, DateTime, Document, doc, spec::BinarySubtype},
    error::Result,
    options::{UpdateOneModel, WriteModel},
};
use serde::{Deserialize, Serialize};

use super::Store;

/// A record as it came, and why it is here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadLetter {
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
                let identity: Document = ["topic", "partition", "offset"]
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
}
