//! Whether chat-service can read what is written with a schema, and if not, because of which field.

use std::{collections::HashMap, fmt};

use apache_avro::{
    Schema,
    schema::{Name, ResolvedSchema, UuidSchema},
};

use super::{
    Half, Table,
    need::{self, Need, Shape},
};

/// One field that a writer schema lacks or has otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub need: Need,
    pub found: Found,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// As the writer schema has it.
    Other(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.need.path.join(".");
        match &self.found {
            Found::Nothing => write!(f, "{path} is missing")?,
            Found::Other(found) => write!(f, "{path} is {found}, not {}", self.need.shape.name())?,
        }
        write!(f, "; chat-service needs it: {}", self.need.purpose)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("it is no Avro schema")]
pub struct NotAvro(#[from] apache_avro::Error);

/// What keeps chat-service from reading what is written with this schema about the table; empty if it can.
///
/// # Errors
/// If the text is no schema.
pub fn problems(table: Table, half: Half, writer_schema: &str) -> Result<Vec<Problem>, NotAvro> {
    let schema = Schema::parse_str(writer_schema)?;
    let resolved = ResolvedSchema::new(&schema)?;
    let names = Names(resolved.get_names());
    Ok(need::of(table, half)
        .filter_map(|need| {
            let found = match names.field(&schema, need.path) {
                Some(found) if names.has_shape(found, need.shape) => return None,
                Some(found) => Found::Other(names.describe(found)),
                None => Found::Nothing,
            };
            Some(Problem { need, found })
        })
        .collect())
}

struct Names<'a>(&'a HashMap<Name, &'a Schema>);

impl<'a> Names<'a> {
    fn resolved(&self, schema: &'a Schema) -> &'a Schema {
        match schema {
            Schema::Ref { name } => self.0.get(name).copied().unwrap_or(schema),
            schema => schema,
        }
    }

    /// The schema of a field; of a record that may be null, too.
    fn field(&self, schema: &'a Schema, path: &[&str]) -> Option<&'a Schema> {
        let Some((name, rest)) = path.split_first() else {
            return Some(self.resolved(schema));
        };
        let schema = self.resolved(schema);
        let Schema::Record(record) = self.without_null(schema).unwrap_or(schema) else {
            return None;
        };
        let field = record.fields.iter().find(|field| field.name == *name)?;
        self.field(&field.schema, rest)
    }

    /// The other one of a union of two with null.
    fn without_null(&self, schema: &'a Schema) -> Option<&'a Schema> {
        let Schema::Union(union) = schema else { return None };
        match union.variants() {
            [Schema::Null, other] | [other, Schema::Null] => Some(self.resolved(other)),
            _ => None,
        }
    }

    fn has_shape(&self, schema: &'a Schema, shape: Shape) -> bool {
        match shape {
            Shape::Long => is_long(schema),
            Shape::Text => is_text(schema),
            Shape::Record => matches!(schema, Schema::Record(_)),
            Shape::OptionalLong => self.without_null(schema).is_some_and(is_long),
            Shape::OptionalText => self.without_null(schema).is_some_and(is_text),
            Shape::OptionalRecord => self
                .without_null(schema)
                .is_some_and(|schema| matches!(schema, Schema::Record(_))),
        }
    }

    fn describe(&self, schema: &'a Schema) -> String {
        match self.resolved(schema) {
            Schema::Union(union) => {
                let variants = union.variants().iter();
                variants
                    .map(|variant| self.describe(variant))
                    .collect::<Vec<_>>()
                    .join(" or ")
            }
            Schema::Record(_) => "record".to_owned(),
            Schema::Null => "null".to_owned(),
            Schema::Boolean => "boolean".to_owned(),
            Schema::Int => "int".to_owned(),
            Schema::Long => "long".to_owned(),
            Schema::Float => "float".to_owned(),
            Schema::Double => "double".to_owned(),
            Schema::Bytes => "bytes".to_owned(),
            Schema::String => "string".to_owned(),
            Schema::Array(_) => "array".to_owned(),
            Schema::Map(_) => "map".to_owned(),
            Schema::Enum(_) => "enum".to_owned(),
            Schema::Fixed(_) => "fixed".to_owned(),
            _ => "of a logical type".to_owned(),
        }
    }
}

fn is_long(schema: &Schema) -> bool {
    matches!(
        schema,
        Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos
    )
}

fn is_text(schema: &Schema) -> bool {
    matches!(schema, Schema::String | Schema::Uuid(UuidSchema::String))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schemas::history;

    fn refusals(half: Half, schema: &str) -> Vec<String> {
        let problems = problems(Table::TradePosts, half, schema).unwrap();
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_shipped_can_be_read() {
        for half in Half::BOTH {
            for table in Table::ALL {
                let problems = problems(table, half, history::newest(table, half)).unwrap();
                assert_eq!(problems, [], "{table:?} {half}");
            }
        }
    }

    #[test]
    fn a_field_that_is_missing_or_otherwise_is_named_with_who_needs_it() {
        let id_of = |kind: &str| {
            format!(r#"{{"type":"record","name":"Key","fields":[{{"name":"id","type":{kind}}}]}}"#)
        };
        assert_eq!(refusals(Half::Key, &id_of(r#""long""#)), [""; 0]);
        assert_eq!(
            refusals(Half::Key, &id_of(r#""int""#)),
            [
                "id is int, not long; chat-service needs it: which post, or keyword; the whole content of a tombstone"
            ]
        );
        assert!(
            refusals(Half::Key, &id_of(r#"["null", "long"]"#))[0]
                .starts_with("id is null or long, not long;")
        );
        let other = r#"{"type":"record","name":"Key","fields":[{"name":"post","type":"long"}]}"#;
        assert!(refusals(Half::Key, other)[0].starts_with("id is missing; "));
        // Nothing of a value is in it.
        let all = need::of(Table::TradePosts, Half::Value).count();
        assert_eq!(refusals(Half::Value, other).len(), all);
        assert!(problems(Table::TradePosts, Half::Key, "{").is_err());
        assert!(
            problems(
                Table::TradePosts,
                Half::Key,
                r#"{"type":"record","name":"K","fields":[{"name":"id","type":"Nobody"}]}"#
            )
            .is_err()
        );
    }
}
