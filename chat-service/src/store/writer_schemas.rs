//! `writer_schemas`: the schemas records were written with, so that a start without the registry
//! can read on.

use mongodb::{
    bson::{Document, doc},
    error::Result,
    options::ReturnDocument,
};

use super::Store;

impl Store {
    /// The text of the schema `id`, if it was met before.
    pub async fn writer_schema(&self, id: u32) -> Result<Option<String>> {
        let found: Option<Document> = self
            .writer_schemas
            .find_one(doc! { "_id": i64::from(id) })
            .await?;
        Ok(found.and_then(|found| found.get_str("schema").ok().map(str::to_owned)))
    }

    /// Keeps the text of the schema `id` and answers the first text that was ever kept under it.
    pub async fn keep_writer_schema(&self, id: u32, schema: &str) -> Result<String> {
        let first = self
            .writer_schemas
            .find_one_and_update(
                doc! { "_id": i64::from(id) },
                doc! { "$setOnInsert": { "schema": schema } },
            )
            .upsert(true)
            .return_document(ReturnDocument::After)
            .await?;
        Ok(first
            .and_then(|first| first.get_str("schema").ok().map(str::to_owned))
            .unwrap_or_default())
    }
}
