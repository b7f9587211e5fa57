//! Page sizes and ids in paths and queries.

use mongodb::bson::oid::ObjectId;
use serde::{Serialize, de::DeserializeOwned};
use service_kit::cursor;

use super::error::ApiError;

const DEFAULT: i64 = 20;
const MAX: i64 = 100;

/// The page size asked for: 1 to 100, 20 if none is.
pub fn limit(asked: Option<i64>) -> Result<i64, ApiError> {
    match asked {
        None => Ok(DEFAULT),
        Some(limit @ 1..=MAX) => Ok(limit),
        Some(limit) => Err(ApiError::Field {
            field: "limit",
            problem: format!("must be 1 to {MAX}, is {limit}"),
        }),
    }
}

/// Reads a cursor that this API gave out.
pub fn after<T: DeserializeOwned>(cursor: Option<&str>) -> Result<Option<T>, ApiError> {
    cursor
        .map(cursor::decode)
        .transpose()
        .map_err(|_| ApiError::Field {
            field: "cursor",
            problem: "is not one that this list gave out".into(),
        })
}

/// The cursor behind `last`, if the page was full.
pub fn next<R, T: Serialize>(page: &[R], limit: i64, key: impl Fn(&R) -> T) -> Option<String> {
    let full = i64::try_from(page.len()).is_ok_and(|len| len == limit);
    page.last()
        .filter(|_| full)
        .map(|last| cursor::encode(&key(last)))
}

/// A room id; what cannot be one is the id of no room.
pub fn room_id(text: &str) -> Result<ObjectId, ApiError> {
    ObjectId::parse_str(text).map_err(|_| ApiError::NoRoom)
}
