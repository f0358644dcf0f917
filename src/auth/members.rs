//! An object of JSON in which no name stands twice.

use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// The members of a token's header, or its claims. Where a name stands twice, two readers could take different ones, so it is refused
/// (RFC 7515 and RFC 7519, section 4 of each, leave the choice).
pub(super) struct Members(pub(super) Map<String, Value>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOfEach;

        impl<'de> Visitor<'de> for OneOfEach {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Members, A::Error> {
                let mut found = Map::new();
                while let Some((name, value)) = members.next_entry()? {
                    if found.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name stands twice"));
                    }
                }
                Ok(Members(found))
            }
        }

        deserializer.deserialize_map(OneOfEach)
    }
}
