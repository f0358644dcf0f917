//! The checksum of a row: SQLite has none, so a flipped bit in a stored text would be served as what was called.
//!
//! CRC-32 (ISO 3309) over every value of the row and every value that it names by number, each with its type and length. It tells
//! an accident, not an attacker, who can compute it as well.

use rusqlite::types::ValueRef;

/// What a row names by number, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(in crate::audit) struct Named<'a> {
    pub(in crate::audit) epoch: &'a [u8; 16],
    /// The number of the class, or that of the intents.
    pub(in crate::audit) table: i64,
    pub(in crate::audit) boot_id: &'a [u8; 16],
    pub(in crate::audit) tag: u32,
    /// Operation ID and permission.
    pub(in crate::audit) operation: Option<(&'a str, &'a str)>,
}

impl Named<'_> {
    /// The sum to which the values of the row are added: of an entry what it has in common with others, then times, trace ID and
    /// forwarded address, ordinal, seq, outcome, code, duration, calls and span; of an intent its call and its number.
    pub(in crate::audit) fn sum(&self) -> Sum {
        let mut sum = Sum(u32::MAX);
        sum.add(ValueRef::Blob(self.epoch));
        sum.add(ValueRef::Integer(self.table));
        sum.add(ValueRef::Blob(self.boot_id));
        sum.add(ValueRef::Integer(self.tag.into()));
        if let Some((operation_id, permission)) = self.operation {
            sum.add(ValueRef::Text(operation_id.as_bytes()));
            sum.add(ValueRef::Text(permission.as_bytes()));
        }
        sum
    }
}

/// The sum of the values that were added to it.
#[derive(Clone, Copy, Debug)]
pub(in crate::audit) struct Sum(u32);

impl Sum {
    /// Adds a value.
    pub(in crate::audit) fn add(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => self.bytes(&[0]),
            ValueRef::Integer(number) => {
                self.bytes(&[1]);
                self.bytes(&number.to_le_bytes());
            }
            ValueRef::Real(number) => {
                self.bytes(&[2]);
                self.bytes(&number.to_le_bytes());
            }
            ValueRef::Text(text) => self.measured(3, text),
            ValueRef::Blob(blob) => self.measured(4, blob),
        }
    }

    /// The sum as it is stored: signed, so that it takes four bytes.
    pub(in crate::audit) fn value(self) -> i64 {
        i64::from((self.0 ^ u32::MAX).cast_signed())
    }

    fn measured(&mut self, kind: u8, bytes: &[u8]) {
        self.bytes(&[kind]);
        self.bytes(&(bytes.len() as u64).to_le_bytes());
        self.bytes(bytes);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let (eights, rest) = bytes.as_chunks::<8>();
        for eight in eights {
            // Each byte's effect after those behind it, looked up at once.
            let word = u64::from_le_bytes(*eight) ^ u64::from(self.0);
            let effects = word.to_le_bytes().into_iter().zip(TABLES.iter().rev());
            self.0 = effects.fold(0, |sum, (byte, table)| sum ^ table[usize::from(byte)]);
        }
        for &byte in rest {
            self.0 = TABLES[0][usize::from(self.0.to_le_bytes()[0] ^ byte)] ^ self.0 >> 8;
        }
    }
}

/// What a byte does to the sum, with so many zero bytes behind it.
static TABLES: [[u32; 256]; 8] = {
    let mut tables = [TABLE; 8];
    let mut zeros = 1;
    while zeros < 8 {
        let mut index = 0;
        while index < 256 {
            let before = tables[zeros - 1][index];
            tables[zeros][index] = TABLE[before as usize & 0xff] ^ before >> 8;
            index += 1;
        }
        zeros += 1;
    }
    tables
};

/// What a byte does to the sum.
const TABLE: [u32; 256] = {
    let mut table = [0_u32; 256];
    let mut index = 0;
    while index < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "it is below 256")]
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { 0xedb8_8320 ^ value >> 1 } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_crc_32_of_every_other_program() {
        let mut sum = Sum(u32::MAX);
        sum.bytes(b"123456789");
        assert_eq!(sum.value(), i64::from(0xcbf4_3926_u32.cast_signed()));
        let mut sum = Sum(u32::MAX);
        sum.bytes(b"The quick brown fox jumps over the lazy dog");
        assert_eq!(sum.value(), i64::from(0x414f_a339_u32.cast_signed()));
    }

    #[test]
    fn values_that_look_alike_have_different_sums() {
        let of = |values: &[ValueRef<'_>]| {
            let mut sum = Sum(u32::MAX);
            for &value in values {
                sum.add(value);
            }
            sum.value()
        };
        let text = |text: &'static str| ValueRef::Text(text.as_bytes());
        let sums = [
            of(&[text("ab"), text("c")]),
            of(&[text("a"), text("bc")]),
            of(&[text("ab"), ValueRef::Blob(b"c")]),
            of(&[text("ab"), text("c"), ValueRef::Null]),
            of(&[text("ab"), text("c"), ValueRef::Integer(0)]),
        ];
        for (index, sum) in sums.iter().enumerate() {
            assert!(!sums[..index].contains(sum), "{sums:?}");
        }
    }
}
