//! The schema version of a ring file: what an agent may do with a file of a version that is not its own.

use std::fmt;

use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

/// As `PRAGMA user_version` holds it: the major version in the low 16 bits, the minor one in the high 16 bits.
///
/// A new minor version only adds: tables, and columns that may be null or have a default. Whoever does not know them reads and
/// writes the file as before and keeps what he does not know, so an agent can go back to the version before it. What is added is not
/// part of a row's `sum`. Everything else is a new major version, which an older agent leaves alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaVersion {
    pub(super) major: u16,
    minor: u16,
}

impl SchemaVersion {
    /// All that there were, the first one first.
    const KNOWN: [Self; 3] = [Self::new(1, 0), Self::new(2, 0), Self::CURRENT];

    /// What this agent writes.
    pub const CURRENT: Self = Self::new(3, 0);

    /// A version by its two numbers.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// The number that the file holds.
    pub const fn to_number(self) -> i32 {
        i32::from_be_bytes((((self.minor as u32) << 16) | self.major as u32).to_be_bytes())
    }

    pub(super) const fn of_number(number: i32) -> Self {
        let [minor_high, minor_low, major_high, major_low] = number.to_be_bytes();
        Self::new(u16::from_be_bytes([major_high, major_low]), u16::from_be_bytes([minor_high, minor_low]))
    }

    /// Whether this agent knows all that such a file holds.
    pub(super) fn is_known(self) -> bool {
        Self::KNOWN.contains(&self)
    }

    /// Whether this agent can read and write such a file.
    pub(super) const fn is_readable(self) -> bool {
        self.major > 0 && self.major <= Self::CURRENT.major
    }
}

impl fmt::Display for SchemaVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

impl ToSql for SchemaVersion {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.to_number().into())
    }
}

impl FromSql for SchemaVersion {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        i32::column_result(value).map(Self::of_number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_without_a_minor_one_are_the_numbers_of_the_first_files() {
        assert_eq!((SchemaVersion::new(1, 0).to_number(), SchemaVersion::new(2, 0).to_number()), (1, 2));
    }

    #[test]
    fn a_version_is_what_its_number_says() {
        for (major, minor) in [(2, 0), (2, 1), (3, 0), (1, 0xffff), (0xffff, 0x8000)] {
            let version = SchemaVersion::new(major, minor);
            assert_eq!(SchemaVersion::of_number(version.to_number()), version);
        }
    }

    #[test]
    fn a_newer_minor_version_is_readable_and_a_newer_major_one_is_not() {
        let SchemaVersion { major, minor } = SchemaVersion::CURRENT;
        let told = |major, minor| {
            let version = SchemaVersion::new(major, minor);
            (version.is_known(), version.is_readable())
        };
        assert_eq!(told(major, minor), (true, true));
        assert_eq!(told(1, 0), (true, true));
        assert_eq!(told(major, minor + 1), (false, true));
        assert_eq!(told(major + 1, 0), (false, false));
        assert_eq!(told(1, 1), (false, true), "there never was one");
        assert_eq!(told(0, 0), (false, false));
    }
}
