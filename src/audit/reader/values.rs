//! Values as they stand in a row. One of another kind than what was stored is damage.

use std::net::IpAddr;

use rusqlite::types::{FromSql, ValueRef};

use crate::audit::ring::damaged;

/// The values of a row, each asked for once: asking is much of what serving a row costs.
pub(super) struct Values<'r>(pub(super) &'r [ValueRef<'r>]);

impl<'r> Values<'r> {
    pub(super) fn get<T: FromSql>(&self, column: usize) -> rusqlite::Result<T> {
        T::column_result(self.0[column]).map_err(|_| damaged("a value is of another kind than what was stored"))
    }

    pub(super) fn text(&self, column: usize) -> rusqlite::Result<&'r str> {
        self.optional_text(column)?.ok_or_else(|| damaged("a text is missing"))
    }

    pub(super) fn optional_text(&self, column: usize) -> rusqlite::Result<Option<&'r str>> {
        self.0[column].as_str_or_null().map_err(|_| damaged("what has to be a text is none"))
    }

    pub(super) fn octets(&self, column: usize) -> rusqlite::Result<Option<&'r [u8]>> {
        self.0[column].as_blob_or_null().map_err(|_| damaged("what has to be octets is none"))
    }

    pub(super) fn address(&self, column: usize) -> rusqlite::Result<Option<IpAddr>> {
        let Some(octets) = self.octets(column)? else {
            return Ok(None);
        };
        let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
        let address = v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from));
        address.map(Some).map_err(|_| damaged("no such address"))
    }
}
