//! Values on their way into a row, and into the row's sum.

use std::net::IpAddr;

use rusqlite::Statement;
use rusqlite::types::{ToSqlOutput, ValueRef};

use super::sum::Sum;

/// A row about to be inserted: binds its values one after the other and adds them to its sum.
pub(super) struct Row<'s, 'c> {
    statement: &'s mut Statement<'c>,
    values: usize,
    sum: Sum,
}

impl<'s, 'c> Row<'s, 'c> {
    /// A row whose values are added to this sum.
    pub(super) const fn new(statement: &'s mut Statement<'c>, sum: Sum) -> Self {
        Self { statement, values: 0, sum }
    }

    /// The sum so far.
    pub(super) const fn sum(&self) -> Sum {
        self.sum
    }

    pub(super) fn bind(&mut self, number: u64) -> rusqlite::Result<()> {
        let number = i64::try_from(number).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        self.bind_value(ValueRef::Integer(number))
    }

    pub(super) fn bind_text(&mut self, text: Option<&str>) -> rusqlite::Result<()> {
        self.bind_value(text.map_or(ValueRef::Null, ValueRef::from))
    }

    pub(super) fn bind_octets(&mut self, octets: Option<Octets>) -> rusqlite::Result<()> {
        self.bind_value(octets.as_ref().map_or(ValueRef::Null, |octets| ValueRef::Blob(octets.as_bytes())))
    }

    pub(super) fn bind_value(&mut self, value: ValueRef<'_>) -> rusqlite::Result<()> {
        self.sum.add(value);
        self.values += 1;
        self.statement.raw_bind_parameter(self.values, ToSqlOutput::Borrowed(value))
    }

    /// Binds a number that is no part of the sum.
    pub(super) fn bind_apart(&mut self, number: i64) -> rusqlite::Result<()> {
        self.values += 1;
        self.statement.raw_bind_parameter(self.values, number)
    }

    /// Adds to the sum what a row of this table always is, and has no column for.
    pub(super) fn always(&mut self, number: i64) {
        self.sum.add(ValueRef::Integer(number));
    }

    /// Binds the sum as the last value.
    pub(super) fn execute_with_sum(mut self) -> rusqlite::Result<()> {
        self.bind_apart(self.sum.value())?;
        self.execute()
    }

    pub(super) fn execute(self) -> rusqlite::Result<()> {
        self.statement.raw_execute().map(drop)
    }
}

/// An address in network order.
#[derive(Clone, Copy)]
pub(super) enum Octets {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl Octets {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => Self::V6(address.octets()),
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::V4(octets) => octets,
            Self::V6(octets) => octets,
        }
    }
}
