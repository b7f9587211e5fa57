//! Writer schemas: from the registry once per id, then from memory.
//!
//! Invariant: an id never changes its meaning. The first text met under an id is kept in MongoDB;
//! a registry that answers another one has lost its storage, and nothing is decoded with it.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use apache_avro::{Schema, reader::datum::GenericDatumReader};
use schema_registry_converter::{
    async_impl::{
        avro::get_avro_schema,
        schema_registry::{SrSettings, get_schema_by_id},
    },
    error::SRCError,
    schema_registry_common::RawError,
};

use crate::store::Store;

/// A reader made for one writer schema. Schemas are as many as there were changes of the table, and
/// live as long as the process.
pub type Reader = &'static GenericDatumReader<'static>;

/// Most bytes that one field may claim; Kafka's largest message is smaller by far.
const MAX_FIELD_BYTES: usize = 16 << 20;
/// How long the registry may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error("the schema registry does not answer for schema {id}")]
    Unreachable { id: u32, source: SRCError },
    #[error("cannot keep schema {id}")]
    Store { id: u32, source: mongodb::error::Error },
    #[error("the schema registry does not know schema {id}")]
    Unknown { id: u32 },
    #[error(
        "the schema registry answers another schema {id} than before: it lost its storage; \
         restore it, or remove the id from `writer_schemas` once no record uses the old one"
    )]
    Changed { id: u32 },
    #[error("schema {id} is not an Avro schema")]
    Invalid { id: u32, reason: String },
}

/// The writer schemas met so far.
pub struct WriterSchemas {
    registry: SrSettings,
    store: Store,
    readers: Mutex<HashMap<u32, Reader>>,
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
        // Process-wide, and only the first call counts: a hostile length allocates no more.
        apache_avro::util::max_allocation_bytes(MAX_FIELD_BYTES);
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
        if let Some(reader) = lock(&self.readers).get(&id) {
            return Ok(reader);
        }
        let schema = match self.fetch(id).await {
            // Without the registry, what was kept serves.
            Err(SchemaError::Unreachable { id, source }) => match self.kept(id).await? {
                Some(schema) => schema,
                None => return Err(SchemaError::Unreachable { id, source }),
            },
            Err(unknown @ SchemaError::Unknown { .. }) => {
                lock(&self.unknown_since).entry(id).or_insert_with(Instant::now);
                return Err(unknown);
            }
            fetched => fetched?,
        };
        lock(&self.unknown_since).remove(&id);
        let mut readers = lock(&self.readers);
        // Somebody else may have fetched it meanwhile; what is leaked is leaked once.
        if let Some(reader) = readers.get(&id) {
            return Ok(reader);
        }
        let schema: &'static Schema = Box::leak(Box::new(schema));
        let reader = GenericDatumReader::builder(schema)
            .build()
            .map_err(|error| SchemaError::Invalid {
                id,
                reason: error.to_string(),
            })?;
        let reader: Reader = Box::leak(Box::new(reader));
        readers.insert(id, reader);
        Ok(reader)
    }

    /// For how long the registry has been saying that it does not know `id`.
    pub fn unknown_for(&self, id: u32) -> Duration {
        lock(&self.unknown_since)
            .get(&id)
            .map_or(Duration::ZERO, Instant::elapsed)
    }

    async fn fetch(&self, id: u32) -> Result<Schema, SchemaError> {
        let registered = get_schema_by_id(id, &self.registry)
            .await
            .map_err(|error| refused(id, error))?;
        let fetched = get_avro_schema(&self.registry, registered)
            .await
            .map_err(|error| {
                if error.retriable {
                    SchemaError::Unreachable { id, source: error }
                } else {
                    SchemaError::Invalid {
                        id,
                        reason: error.to_string(),
                    }
                }
            })?;
        let first = self
            .store
            .keep_writer_schema(id, &fetched.raw)
            .await
            .map_err(|source| SchemaError::Store { id, source })?;
        if first == fetched.raw {
            Ok(fetched.parsed.clone())
        } else {
            Err(SchemaError::Changed { id })
        }
    }

    async fn kept(&self, id: u32) -> Result<Option<Schema>, SchemaError> {
        let kept = self
            .store
            .writer_schema(id)
            .await
            .map_err(|source| SchemaError::Store { id, source })?;
        kept.map(|text| {
            Schema::parse_str(&text).map_err(|error| SchemaError::Invalid {
                id,
                reason: error.to_string(),
            })
        })
        .transpose()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What it means that the registry did not answer with a schema. The converter calls few answers
/// retriable, so only the registry's own "not found" counts as a final word.
fn refused(id: u32, error: SRCError) -> SchemaError {
    use std::error::Error as _;
    let answer = error
        .source()
        .and_then(|source| source.downcast_ref::<RawError>());
    match answer.map(|answer| answer.error_code) {
        Some(404 | 40_400..=40_499) => SchemaError::Unknown { id },
        _ => SchemaError::Unreachable { id, source: error },
    }
}
