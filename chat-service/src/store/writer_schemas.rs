//! `writer_schemas`: the schemas records were written with, so that a start without the registry
//! can read on.

use mongodb::{
    bson::{Document, doc},
    error::Result,
};

use super::{Store, is_duplicate_key};

impl Store {
    /// The text of the schema `id`, if it was met before.
    pub async fn writer_schema(&self, id: u32) -> Result<Option<String>> {
        let found: Option<Document> = self
            .writer_schemas
            .find_one(doc! { "_id": i64::from(id) })
            .await?;
        Ok(found.and_then(|found| found.get_str("schema").ok().map(str::to_owned)))
    }

    /// Keeps the text of the schema `id` if none was kept yet.
    pub async fn keep_writer_schema(&self, id: u32, schema: &str) -> Result<()> {
        let kept = doc! { "_id": i64::from(id), "schema": schema };
        match self.writer_schemas.insert_one(kept).await {
            Err(error) if !is_duplicate_key(&error) => Err(error),
            _ => Ok(()),
        }
    }
}
