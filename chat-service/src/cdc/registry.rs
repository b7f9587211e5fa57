//! Writer schemas: from the registry once per id, then from memory.
//!
//! Invariant: an id never changes its meaning. The first text met under an id is kept in MongoDB;
//! a registry that answers another one has lost its storage and gives ids out again, and nothing is
//! decoded with what it answers. Only final answers are remembered: a schema, or one that is none.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use apache_avro::{Schema, reader::datum::GenericDatumReader};
use schema_registry_converter::{
    async_impl::schema_registry::{SrSettings, get_schema_by_id},
    error::SRCError,
    schema_registry_common::{RawError, RegisteredSchema, SchemaType},
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    excerpt::excerpt,
    writer_schema::{self, InvalidSchema},
};
use crate::store::Store;

/// A reader made for one writer schema. Schemas are as many as there were changes of the table, and
/// live as long as the process.
pub type Reader = &'static GenericDatumReader<'static>;

/// How long the registry may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often the registry is asked whether its ids still mean the same.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error("the schema registry does not answer for schema {id}: {reason}")]
    Unreachable { id: u32, reason: String },
    #[error("the schema registry does not let this service read schema {id}: {reason}")]
    Denied { id: u32, reason: String },
    #[error("cannot keep schema {id}")]
    Store { id: u32, source: mongodb::error::Error },
    #[error("the schema registry does not know schema {id}")]
    Unknown { id: u32 },
    #[error(
        "the schema registry answers another schema {id} than before: it lost its storage; \
         restore it, or remove the id from `writer_schemas` once no record uses the old one"
    )]
    Changed { id: u32 },
    #[error("nothing can be read with schema {id}")]
    Invalid { id: u32, source: InvalidSchema },
}

/// The writer schemas met so far.
pub struct WriterSchemas {
    registry: SrSettings,
    store: Store,
    readers: Mutex<HashMap<u32, Result<Reader, InvalidSchema>>>,
    unknown_since: Mutex<HashMap<u32, Instant>>,
}

impl std::fmt::Debug for WriterSchemas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriterSchemas")
            .field("known", &lock(&self.readers).len())
            .finish_non_exhaustive()
    }
}

impl WriterSchemas {
    /// # Errors
    /// If `url` makes no HTTP client.
    pub fn new(url: &str, store: Store) -> Result<Self, SRCError> {
        let registry = SrSettings::new_builder(url.trim_end_matches('/').to_owned())
            .set_timeout(TIMEOUT)
            .build()?;
        Ok(Self {
            registry,
            store,
            readers: Mutex::default(),
            unknown_since: Mutex::default(),
        })
    }

    /// The reader for schema `id`, fetched if it is new.
    pub async fn load(&self, id: u32) -> Result<Reader, SchemaError> {
        if let Some(known) = lock(&self.readers).get(&id).cloned() {
            return known.map_err(|source| SchemaError::Invalid { id, source });
        }
        let schema = match (self.ask(id).await, self.kept(id).await?) {
            (Ok(answer), Some(kept)) if !same(&answer.schema, &kept) => {
                return Err(SchemaError::Changed { id });
            }
            (Ok(answer), _) => self.keep(id, &answer).await?,
            (Err(error), Some(kept)) => {
                warn!(%error, "the kept schema serves");
                writer_schema::parse(&kept)
            }
            (Err(error), None) => {
                if let SchemaError::Unknown { id } = error {
                    lock(&self.unknown_since).entry(id).or_insert_with(Instant::now);
                }
                return Err(error);
            }
        };
        lock(&self.unknown_since).remove(&id);
        let mut readers = lock(&self.readers);
        // Somebody else may have fetched it meanwhile; what is leaked is leaked once.
        let reader = readers.entry(id).or_insert_with(|| {
            let schema: &'static Schema = Box::leak(Box::new(schema?));
            Ok(Box::leak(Box::new(writer_schema::reader(schema)?)))
        });
        reader
            .clone()
            .map_err(|source| SchemaError::Invalid { id, source })
    }

    /// For how long the registry has been saying that it does not know `id`.
    pub fn unknown_for(&self, id: u32) -> Duration {
        lock(&self.unknown_since)
            .get(&id)
            .map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Sees to it until `shutdown` that the ids in use keep their meaning.
    ///
    /// # Errors
    /// If one has another.
    pub async fn watch(&self, shutdown: CancellationToken) -> Result<(), SchemaError> {
        let mut ticks = interval(CONFIRM_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            self.confirm().await?;
        }
        Ok(())
    }

    /// Asks the registry again for every schema in use. One that does not answer changes nothing.
    ///
    /// # Errors
    /// If it answers another one.
    pub async fn confirm(&self) -> Result<(), SchemaError> {
        let in_use: Vec<u32> = lock(&self.readers).keys().copied().collect();
        for id in in_use {
            if let (Ok(answer), Ok(Some(kept))) = (self.ask(id).await, self.kept(id).await)
                && !same(&answer.schema, &kept)
            {
                return Err(SchemaError::Changed { id });
            }
        }
        Ok(())
    }

    async fn ask(&self, id: u32) -> Result<RegisteredSchema, SchemaError> {
        get_schema_by_id(id, &self.registry)
            .await
            .map_err(|error| refused(id, &error))
    }

    async fn kept(&self, id: u32) -> Result<Option<String>, SchemaError> {
        let kept = self.store.writer_schema(id).await;
        kept.map_err(|source| SchemaError::Store { id, source })
    }

    /// Keeps the answer if it is a schema. The outer error is about the id, the inner about the text.
    async fn keep(
        &self,
        id: u32,
        answer: &RegisteredSchema,
    ) -> Result<Result<Schema, InvalidSchema>, SchemaError> {
        let schema = match parse(answer) {
            Ok(schema) => schema,
            Err(invalid) => return Ok(Err(invalid)),
        };
        let keep = self.store.keep_writer_schema(id, &answer.schema).await;
        keep.map_err(|source| SchemaError::Store { id, source })?;
        // Another instance may have met the id at the same time.
        match self.kept(id).await? {
            Some(first) if !same(&answer.schema, &first) => Err(SchemaError::Changed { id }),
            _ => Ok(Ok(schema)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether two texts say the same. Another version of the registry may write them in another way.
fn same(a: &str, b: &str) -> bool {
    let json = |text| serde_json::from_str::<serde_json::Value>(text).ok();
    a == b || json(a).is_some_and(|a| Some(a) == json(b))
}

fn parse(answer: &RegisteredSchema) -> Result<Schema, InvalidSchema> {
    if answer.schema_type != SchemaType::Avro {
        let other = format!("its type is {:?}", answer.schema_type);
        return Err(InvalidSchema::NotAvro(excerpt(&other)));
    }
    // Debezium's hold all they need; the text alone is what is kept.
    if !answer.references.is_empty() {
        return Err(InvalidSchema::NotAvro("it refers to other schemas".to_owned()));
    }
    writer_schema::parse(&answer.schema)
}

/// What it means that the registry did not answer with a schema. Only its own word for "no schema has
/// this id" is final: a 404 alone can come from a proxy, or from a wrong address.
fn refused(id: u32, error: &SRCError) -> SchemaError {
    use std::error::Error as _;
    let answer = error
        .source()
        .and_then(|source| source.downcast_ref::<RawError>());
    if answer.is_some_and(|answer| answer.error_code == 40_403) {
        return SchemaError::Unknown { id };
    }
    let reason = excerpt(&match &error.cause {
        Some(cause) => format!("{}: {cause}", error.error),
        None => error.error.clone(),
    });
    // The converter tells the status in this way alone.
    let denied = ["401 Unauthorized", "403 Forbidden"];
    if denied.iter().any(|status| error.error.ends_with(status)) {
        SchemaError::Denied { id, reason }
    } else {
        SchemaError::Unreachable { id, reason }
    }
}
