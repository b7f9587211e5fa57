//! Reads some fields of an Avro record by name and skips the others, whatever they are.
//!
//! serde's derive does not do for this. It wants the record to have the struct's name, and what it
//! ignores it cannot skip if it is a record itself; apache-avro 0.22 refuses both. Fields that are
//! added to a table, and the old row, are skipped here without a look at their values.

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor},
};

/// A field's name in the record: its own, or the one that is given because it is none in Rust.
macro_rules! field_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $name:literal) => {
        $name
    };
}
pub(crate) use field_name;

/// Declares a struct that is read from a record with at least these fields.
macro_rules! record {
    (struct $name:ident { $($field:ident $(= $other:literal)?: $type:ty),+ $(,)? }) => {
        #[derive(Debug)]
        struct $name { $($field: $type),+ }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Fields;

                impl<'de> serde::de::Visitor<'de> for Fields {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("a record with the fields of ", stringify!($name)))
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        const NAMES: &[&str] = &[$($crate::cdc::record::field_name!($field $($other)?)),+];
                        $(let mut $field: Option<$type> = None;)+
                        while let Some(name) = map.next_key_seed($crate::cdc::record::OneOf(NAMES))? {
                            match name {
                                $(Some($crate::cdc::record::field_name!($field $($other)?)) => {
                                    $field = Some(map.next_value().map_err(|error| {
                                        serde::de::Error::custom(format_args!(
                                            concat!(stringify!($field), ": {}"), error
                                        ))
                                    })?);
                                })+
                                _ => {
                                    map.next_value::<$crate::cdc::record::Skipped>()?;
                                }
                            }
                        }
                        $(let $field = $field
                            .ok_or_else(|| {
                                serde::de::Error::missing_field($crate::cdc::record::field_name!($field $($other)?))
                            })?;)+
                        Ok($name { $($field),+ })
                    }
                }

                deserializer.deserialize_any(Fields)
            }
        }
    };
}
pub(crate) use record;

/// A field's name if it is one of these.
pub(crate) struct OneOf(pub(crate) &'static [&'static str]);

impl<'de> DeserializeSeed<'de> for OneOf {
    type Value = Option<&'static str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for OneOf {
    type Value = Option<&'static str>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|known| **known == name).copied())
    }
}

/// Any value, read over.
pub(crate) struct Skipped;

impl<'de> Deserialize<'de> for Skipped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Skipped {
    type Value = Self;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_none<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_key_seed(OneOf(&[]))?.is_some() {
            map.next_value::<Self>()?;
        }
        Ok(self)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Self, A::Error> {
        let (_, variant) = access.variant_seed(OneOf(&[]))?;
        variant.unit_variant()?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use apache_avro::{
        Schema, reader::datum::GenericDatumReader, types::Value, writer::datum::GenericDatumWriter,
    };

    record! {
        struct Wanted { name: String, size: Option<i64> }
    }

    #[test]
    fn fields_of_every_kind_are_skipped() {
        let schema = Schema::parse_str(
            r#"{"type":"record","name":"Other","namespace":"some.where","fields":[
                {"name":"before","type":["null",{"type":"record","name":"Row","fields":[
                    {"name":"a","type":"bytes"},{"name":"b","type":{"type":"map","values":"double"}}]}]},
                {"name":"name","type":"string"},
                {"name":"again","type":["null","Row"]},
                {"name":"list","type":{"type":"array","items":["null","int","boolean"]}},
                {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["X","Y"]}},
                {"name":"fixed","type":{"type":"fixed","name":"F","size":3}},
                {"name":"size","type":["null","long"]}]}"#,
        )
        .unwrap();
        let row = || {
            Value::Record(vec![
                ("a".into(), Value::Bytes(vec![1, 2])),
                (
                    "b".into(),
                    Value::Map([("k".to_owned(), Value::Double(1.5))].into()),
                ),
            ])
        };
        let union = |index, value| Value::Union(index, Box::new(value));
        let value = Value::Record(vec![
            ("before".into(), union(1, row())),
            ("name".into(), Value::String("자전거".into())),
            ("again".into(), union(1, row())),
            (
                "list".into(),
                Value::Array(vec![union(1, Value::Int(7)), union(0, Value::Null)]),
            ),
            ("kind".into(), Value::Enum(1, "Y".into())),
            ("fixed".into(), Value::Fixed(3, vec![1, 2, 3])),
            ("size".into(), union(1, Value::Long(-5))),
        ]);
        let bytes = GenericDatumWriter::builder(&schema)
            .build()
            .unwrap()
            .write_value_to_vec(value)
            .unwrap();
        let reader = GenericDatumReader::builder(&schema).build().unwrap();
        let mut rest = &bytes[..];
        let wanted: Wanted = reader.read_deser(&mut rest).unwrap();
        assert_eq!(
            (wanted.name.as_str(), wanted.size, rest.len()),
            ("자전거", Some(-5), 0)
        );
        for cut in 0..bytes.len() {
            assert!(
                reader.read_deser::<Wanted>(&mut &bytes[..cut]).is_err(),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn a_field_that_is_needed_and_not_there_is_named() {
        let schema =
            Schema::parse_str(r#"{"type":"record","name":"R","fields":[{"name":"name","type":"string"}]}"#)
                .unwrap();
        let reader = GenericDatumReader::builder(&schema).build().unwrap();
        let error = reader.read_deser::<Wanted>(&mut &[2, b'x'][..]).unwrap_err();
        assert!(error.to_string().contains("size"), "{error}");
    }
}
