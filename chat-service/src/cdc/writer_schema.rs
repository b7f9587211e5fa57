//! The text of a writer schema, made into a reader of what was written with it.
//!
//! Invariant: to read a datum costs time and memory in proportion to its bytes, and little stack,
//! whoever wrote schema and datum. Avro promises none of that: a schema can hold itself, an array of
//! a thousand million nulls is six bytes long, and what is of fixed size may be of any.

use std::collections::HashMap;

use apache_avro::{
    Schema,
    reader::datum::GenericDatumReader,
    schema::{
        DecimalSchema, EnumSchema, FixedSchema, InnerDecimalSchema, Name, RecordSchema, ResolvedSchema,
        UuidSchema,
    },
};

use super::excerpt::excerpt;

/// Most bytes of a text; Debezium's have five thousand.
const MAX_TEXT_BYTES: usize = 1 << 20;
/// Most bytes that one field may claim; Kafka's largest message is smaller by far.
const MAX_FIELD_BYTES: usize = 16 << 20;
/// Most values in a datum beside those of arrays and maps: more than twice PostgreSQL's most columns.
const MAX_VALUES: usize = 10_000;
/// Most values in one item of an array or a map.
const MAX_ITEM_VALUES: usize = 100;
/// Most values in each other.
const MAX_DEPTH: usize = 50;

/// Why nothing is read with a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSchema {
    #[error("{bytes} bytes are too long for a schema")]
    TooLong { bytes: usize },
    #[error("not an Avro schema: {0}")]
    NotAvro(String),
    #[error("{0} holds itself")]
    Recursive(String),
    #[error("its values are more than {MAX_DEPTH} deep in each other")]
    TooDeep,
    #[error("it has more than {MAX_VALUES} values, or more than {MAX_ITEM_VALUES} in one of many")]
    TooManyValues,
    #[error("it has an array of what takes no bytes")]
    EmptyItems,
    #[error("it has a value of {bytes} bytes")]
    TooLargeValue { bytes: usize },
}

/// Reads the text of a schema, and refuses those that would let a datum cost more than its bytes.
pub fn parse(text: &str) -> Result<Schema, InvalidSchema> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(InvalidSchema::TooLong { bytes: text.len() });
    }
    let not_avro = |error: apache_avro::Error| InvalidSchema::NotAvro(excerpt(&error.to_string()));
    let schema = Schema::parse_str(text).map_err(not_avro)?;
    ResolvedSchema::new(&schema).map_err(not_avro)?;
    let whole = Costs::default().of(&schema)?;
    if whole.values > MAX_VALUES {
        return Err(InvalidSchema::TooManyValues);
    }
    Ok(schema)
}

/// A reader of what was written with a schema that [`parse`] made.
pub fn reader(schema: &Schema) -> Result<GenericDatumReader<'_>, InvalidSchema> {
    // Process-wide, and only the first call counts.
    apache_avro::util::max_allocation_bytes(MAX_FIELD_BYTES);
    GenericDatumReader::builder(schema)
        .build()
        .map_err(|error| InvalidSchema::NotAvro(excerpt(&error.to_string())))
}

/// What a datum of a schema costs beside its bytes.
#[derive(Clone, Copy)]
struct Cost {
    /// With one item of each array and map.
    values: usize,
    depth: usize,
    /// Whether it may take no bytes at all.
    empty: bool,
}

impl Cost {
    const SCALAR: Self = Self {
        values: 1,
        depth: 1,
        empty: false,
    };

    /// Of a value that holds one like `self`.
    fn held(self) -> Result<Self, InvalidSchema> {
        if self.depth == MAX_DEPTH {
            return Err(InvalidSchema::TooDeep);
        }
        Ok(Self {
            values: self.values.saturating_add(1),
            depth: self.depth + 1,
            empty: false,
        })
    }
}

/// What is known by name is weighed once.
#[derive(Default)]
struct Costs<'a>(HashMap<&'a Name, Cost>);

impl<'a> Costs<'a> {
    fn of(&mut self, schema: &'a Schema) -> Result<Cost, InvalidSchema> {
        match schema {
            Schema::Null => Ok(Cost {
                empty: true,
                ..Cost::SCALAR
            }),
            // A name is defined before it is used; so it is used in its own definition.
            Schema::Ref { name } => {
                let known = self.0.get(name).copied();
                known.ok_or_else(|| InvalidSchema::Recursive(excerpt(name.as_ref())))
            }
            Schema::Record(record) => self.of_record(record),
            Schema::Union(union) => {
                let mut most = Cost {
                    values: 0,
                    depth: 0,
                    empty: false,
                };
                for variant in union.variants() {
                    let variant = self.of(variant)?;
                    most.values = most.values.max(variant.values);
                    most.depth = most.depth.max(variant.depth);
                }
                most.held()
            }
            Schema::Array(array) => match self.of(&array.items)? {
                Cost { empty: true, .. } => Err(InvalidSchema::EmptyItems),
                items => of_many(items),
            },
            // Their keys take bytes.
            Schema::Map(map) => of_many(self.of(&map.types)?),
            Schema::Enum(EnumSchema { name, .. }) => {
                self.0.insert(name, Cost::SCALAR);
                Ok(Cost::SCALAR)
            }
            Schema::Fixed(fixed)
            | Schema::Duration(fixed)
            | Schema::Uuid(UuidSchema::Fixed(fixed))
            | Schema::Decimal(DecimalSchema {
                inner: InnerDecimalSchema::Fixed(fixed),
                ..
            }) => self.of_fixed(fixed),
            _ => Ok(Cost::SCALAR),
        }
    }

    fn of_record(&mut self, record: &'a RecordSchema) -> Result<Cost, InvalidSchema> {
        let (mut values, mut depth, mut empty) = (0usize, 0, true);
        for field in &record.fields {
            let field = self.of(&field.schema)?;
            values = values.saturating_add(field.values);
            depth = depth.max(field.depth);
            empty &= field.empty;
        }
        let fields = Cost {
            values,
            depth,
            empty: false,
        };
        let cost = Cost {
            empty,
            ..fields.held()?
        };
        self.0.insert(&record.name, cost);
        Ok(cost)
    }

    fn of_fixed(&mut self, fixed: &'a FixedSchema) -> Result<Cost, InvalidSchema> {
        if fixed.size > MAX_FIELD_BYTES {
            return Err(InvalidSchema::TooLargeValue { bytes: fixed.size });
        }
        let cost = Cost {
            empty: fixed.size == 0,
            ..Cost::SCALAR
        };
        self.0.insert(&fixed.name, cost);
        Ok(cost)
    }
}

fn of_many(items: Cost) -> Result<Cost, InvalidSchema> {
    if items.values > MAX_ITEM_VALUES {
        return Err(InvalidSchema::TooManyValues);
    }
    items.held()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> InvalidSchema {
        parse(text).map(drop).unwrap_err()
    }

    #[test]
    fn a_schema_that_holds_itself_is_refused() {
        let list = r#"{"type":"record","name":"a.List","fields":[
            {"name":"next","type":["null","List"]}]}"#;
        assert_eq!(refused(list), InvalidSchema::Recursive("a.List".into()));
    }

    /// Six bytes would say: a thousand million of nothing.
    #[test]
    fn an_array_of_what_takes_no_bytes_is_refused() {
        for nothing in [
            r#""null""#,
            r#"{"type":"record","name":"R","fields":[{"name":"n","type":"null"}]}"#,
            r#"{"type":"fixed","name":"F","size":0}"#,
        ] {
            let array = format!(r#"{{"type":"array","items":{nothing}}}"#);
            assert_eq!(refused(&array), InvalidSchema::EmptyItems, "{nothing}");
            // Which of a union it is takes a byte.
            let optional = format!(r#"{{"type":"array","items":["string",{nothing}]}}"#);
            assert!(parse(&optional).is_ok(), "{nothing}");
        }
    }

    /// Sixty records, each twice in the next, are 2^60 values of no bytes.
    #[test]
    fn records_in_each_other_are_counted_as_often_as_they_are_read() {
        let doubled = |levels: usize| {
            (1..levels).fold(
                r#"{"type":"record","name":"R0","fields":[]}"#.to_owned(),
                |inner, level| {
                    let below = level - 1;
                    format!(
                        r#"{{"type":"record","name":"R{level}","fields":[
                            {{"name":"a","type":{inner}}},{{"name":"b","type":"R{below}"}}]}}"#
                    )
                },
            )
        };
        assert!(parse(&doubled(10)).is_ok());
        assert_eq!(refused(&doubled(20)), InvalidSchema::TooManyValues);
    }

    /// Names let a text of little depth say a value of great depth.
    #[test]
    fn values_too_deep_in_each_other_are_refused() {
        let chain = |length: usize| {
            let fields: Vec<String> = (0..length)
                .map(|n| {
                    let inner = n
                        .checked_sub(1)
                        .map_or("\"long\"".to_owned(), |n| format!("\"R{n}\""));
                    format!(
                        r#"{{"name":"f{n}","type":{{"type":"record","name":"R{n}","fields":[
                            {{"name":"x","type":{inner}}}]}}}}"#
                    )
                })
                .collect();
            format!(
                r#"{{"type":"record","name":"All","fields":[{}]}}"#,
                fields.join(",")
            )
        };
        assert!(parse(&chain(MAX_DEPTH - 2)).is_ok());
        assert_eq!(refused(&chain(MAX_DEPTH - 1)), InvalidSchema::TooDeep);
    }

    #[test]
    fn a_large_fixed_value_and_a_large_text_are_refused() {
        let fixed = r#"{"type":"fixed","name":"F","size":1000000000000}"#;
        let bytes = 1_000_000_000_000;
        assert_eq!(refused(fixed), InvalidSchema::TooLargeValue { bytes });
        let bytes = MAX_TEXT_BYTES + 1;
        assert_eq!(refused(&" ".repeat(bytes)), InvalidSchema::TooLong { bytes });
    }

    #[test]
    fn an_item_of_many_has_few_values() {
        let array = |fields: usize| {
            let fields: Vec<String> = (0..fields)
                .map(|n| format!(r#"{{"name":"f{n}","type":"long"}}"#))
                .collect();
            let record = format!(
                r#"{{"type":"record","name":"R","fields":[{}]}}"#,
                fields.join(",")
            );
            format!(r#"{{"type":"array","items":{record}}}"#)
        };
        assert!(parse(&array(MAX_ITEM_VALUES - 1)).is_ok());
        assert_eq!(refused(&array(MAX_ITEM_VALUES)), InvalidSchema::TooManyValues);
    }

    #[test]
    fn names_that_are_defined_twice_are_refused() {
        let twice = r#"{"type":"record","name":"R","fields":[
            {"name":"a","type":{"type":"fixed","name":"F","size":1}},
            {"name":"b","type":{"type":"fixed","name":"F","size":2}}]}"#;
        assert!(matches!(refused(twice), InvalidSchema::NotAvro(_)));
    }
}
