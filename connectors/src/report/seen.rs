//! What was seen of something, or why it was not.

use std::borrow::Cow;

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::servers::Part;

/// Something that may not have been looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<T> {
    /// With the option that would name the server, or why it is not known what to ask for.
    NotAsked(Cow<'static, str>),
    Failed(String),
    Absent,
    Found(T),
}

/// `{"not_asked": …}`, `{"error": …}`, `null`, or what was found.
impl<T: Serialize> Serialize for Seen<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (key, text) = match self {
            Self::Found(found) => return found.serialize(serializer),
            Self::Absent => return serializer.serialize_none(),
            Self::NotAsked(how) => ("not_asked", how.as_ref()),
            Self::Failed(error) => ("error", error.as_str()),
        };
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(key, text)?;
        map.end()
    }
}

impl<T> Seen<T> {
    pub(super) fn shown(&self, absent: &str, found: impl FnOnce(&T) -> String) -> String {
        match self {
            Self::NotAsked(how) => how.clone().into_owned(),
            Self::Failed(error) => error.clone(),
            Self::Absent => absent.to_owned(),
            Self::Found(value) => found(value),
        }
    }
}

pub(super) fn seen<T, E: std::error::Error + 'static>(part: Part<T, E>) -> Seen<T> {
    match part {
        Part::NotAsked(how) => Seen::NotAsked(how.into()),
        Part::Failed(error) => failed(&error),
        Part::Asked(asked) => Seen::Found(asked),
    }
}

pub(super) fn failed<T>(error: &(dyn std::error::Error + 'static)) -> Seen<T> {
    Seen::Failed(crate::doctor::said(error))
}

pub(super) fn found<T, E: std::error::Error + 'static>(result: Result<Option<T>, E>) -> Seen<T> {
    match result {
        Ok(Some(value)) => Seen::Found(value),
        Ok(None) => Seen::Absent,
        Err(error) => failed(&error),
    }
}

pub(super) fn unfound<T, U>(other: &Seen<T>) -> Seen<U> {
    match other {
        Seen::NotAsked(how) => Seen::NotAsked(how.clone()),
        Seen::Failed(error) => Seen::Failed(error.clone()),
        Seen::Absent | Seen::Found(_) => Seen::Absent,
    }
}

pub(super) fn map<T, U>(seen: Seen<T>, change: impl FnOnce(T) -> U) -> Seen<U> {
    match seen {
        Seen::Found(value) => Seen::Found(change(value)),
        other => unfound(&other),
    }
}
