//! JSON bodies that are objects and nothing else.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// A `T` from a JSON object. Serde itself would also take an array of the fields' values in their order, which the
/// operation's schema does not allow.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields))
            }
        }
        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Change {
        hostname: String,
    }

    #[test]
    fn a_body_is_an_object_with_each_known_field_once() {
        let read = |json| serde_json::from_str::<Object<Change>>(json).map(|Object(change)| change.hostname);
        assert_eq!(read(r#"{"hostname": "node-7"}"#).unwrap(), "node-7");
        let bad = [
            r#"["node-7"]"#,
            r#""node-7""#,
            "null",
            "{}",
            r#"{"hostname": 7}"#,
            r#"{"hostname": null}"#,
            r#"{"hostname": "a", "hostname": "b"}"#,
            r#"{"hostname": "a", "other": 1}"#,
            r#"{"hostname": "a"} x"#,
        ];
        for json in bad {
            assert!(read(json).is_err(), "{json}");
        }
    }
}
