//! An entry as JSON, written straight from its row.

use std::io::Write as _;
use std::net::IpAddr;

use super::ServedEntry;
use crate::host::clock;

impl ServedEntry<'_> {
    /// Appends the entry as JSON: byte for byte what its `Serialize` gives, in fewer instructions. Names are copied and not escaped one
    /// by one, nor are values with nothing to escape.
    pub fn write_json(&self, body: &mut Vec<u8>) {
        let mut object = Object(body);
        object.plain("{\"id\":\"", self.id.encode(&mut [0; 36]));
        object.plain(",\"timestamp\":\"", clock::rfc3339_into(self.timestamp, &mut [0; clock::RFC3339_BYTES]));
        object.text(",\"user\":", self.user);
        object.raw(",\"roles\":[");
        for (index, role) in self.roles.split('\n').filter(|role| !role.is_empty()).enumerate() {
            object.text(if index == 0 { "" } else { "," }, role);
        }
        object.text("],\"method\":", self.method);
        object.text(",\"path\":", self.path);
        object.text(",\"operation_id\":", self.operation_id);
        object.address(",\"source_ip\":\"", self.source_ip);
        object.number(",\"response_code\":", self.response_code);
        object.number(",\"duration_ms\":", self.duration_ms);
        object.number(",\"seq\":", self.seq.0);
        object.plain(",\"class\":\"", self.class.as_str());
        object.plain(",\"outcome\":\"", self.outcome.as_str());
        let optional = [
            (",\"permission\":", self.permission),
            (",\"token_id\":", self.token_id),
            (",\"auth_method\":", self.auth_method),
            (",\"trace_id\":", self.trace_id.as_deref()),
            (",\"user_agent\":", self.user_agent),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                object.text(name, value);
            }
        }
        if let Some(address) = self.forwarded_for {
            object.address(",\"forwarded_for\":\"", address);
        }
        object.plain(",\"boot_id\":\"", self.boot_id.hyphenated().encode_lower(&mut [0; 36]));
        object.number(",\"monotonic_us\":", self.monotonic_us);
        object.number(",\"duration_us\":", self.duration_us);
        object.raw(if self.clock_synced { ",\"clock_synced\":true" } else { ",\"clock_synced\":false" });
        if let Some(count) = self.count {
            object.number(",\"count\":", count);
        }
        if let Some(last) = self.last_timestamp {
            object.plain(",\"last_timestamp\":\"", clock::rfc3339_into(last, &mut [0; clock::RFC3339_BYTES]));
        }
        object.raw("}");
    }
}

/// An object that is being written.
struct Object<'a>(&'a mut Vec<u8>);

impl Object<'_> {
    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// A value of the agent's own, with nothing to escape; the quote before it is part of `before`.
    fn plain(&mut self, before: &str, value: &str) {
        self.raw(before);
        self.raw(value);
        self.0.push(b'"');
    }

    /// Any text.
    fn text(&mut self, before: &str, value: &str) {
        self.raw(before);
        // Without a way out of the loop, so that the compiler looks at many bytes at once.
        let is_special = |byte: u8| u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\');
        if value.bytes().fold(0, |found, byte| found | is_special(byte)) == 0 {
            self.0.push(b'"');
            self.raw(value);
            self.0.push(b'"');
        } else {
            serde_json::to_writer(&mut *self.0, value).expect("a text is JSON, and a Vec takes every write");
        }
    }

    fn number(&mut self, before: &str, value: impl itoa::Integer) {
        self.raw(before);
        self.raw(itoa::Buffer::new().format(value));
    }

    fn address(&mut self, before: &str, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                let mut before = before;
                for octet in address.octets() {
                    self.number(before, octet);
                    before = ".";
                }
            }
            IpAddr::V6(address) => {
                self.raw(before);
                write!(self.0, "{address}").expect("a Vec takes every write");
            }
        }
        self.0.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::audit::{Class, EntryId, Outcome, Seq};

    proptest! {
        #[test]
        fn an_entry_is_written_as_it_is_serialized(
            texts in prop::array::uniform5(any::<String>()), optional in prop::array::uniform3(any::<Option<String>>()),
            numbers in any::<(u64, u64, i64, i64, u16, bool)>(), addresses in any::<(IpAddr, Option<IpAddr>)>(),
            kind in (0_usize..3, 0_usize..5), many in any::<Option<(u64, i64)>>(), boot in any::<u128>(),
        ) {
            let (duration_us, seq, timestamp, monotonic_us, response_code, clock_synced) = numbers;
            let [user, roles, method, path, operation_id] = &texts;
            let (class, seq) = (Class::ALL[kind.0], Seq(seq));
            let entry = ServedEntry {
                id: EntryId::new(timestamp, class, seq, 7),
                timestamp, user, roles, method, path, operation_id,
                source_ip: addresses.0, response_code,
                duration_ms: duration_us / 1_000,
                seq, class, outcome: Outcome::ALL[kind.1],
                permission: optional[0].as_deref(),
                token_id: optional[1].as_deref(),
                auth_method: optional[2].as_deref(),
                trace_id: optional[1].as_deref().map(Cow::Borrowed),
                user_agent: optional[2].as_deref(),
                forwarded_for: addresses.1,
                boot_id: Uuid::from_u128(boot),
                monotonic_us, duration_us, clock_synced,
                count: many.map(|(count, _)| count),
                last_timestamp: many.map(|(_, last)| last),
            };
            let mut written = b"before".to_vec();
            entry.write_json(&mut written);
            prop_assert_eq!(&written[6..], serde_json::to_vec(&entry).unwrap());
        }
    }
}
