//! A filter as a condition in SQL, with its values as bound parameters.

use std::ops::Range;

use rusqlite::types::Value;
use rusqlite::{Statement, Transaction};

use super::memory::Memory;
use super::merge::Span;
use super::rows::Columns;
use crate::audit::class::Class;
use crate::audit::filter::{Filter, PathPattern};

/// What rows have to meet beside standing in the table of their class.
#[derive(Clone, Debug, Default)]
pub(super) struct Predicate {
    /// Conditions on an entry's own columns, each with an `AND` before it.
    own: String,
    /// Conditions on what entries have in common, in the same form.
    common: String,
    values: Vec<Value>,
}

impl Predicate {
    /// Behind those of the piece.
    const FIRST_PARAMETER: usize = 5;

    /// The filter without its class, which chooses among tables. None: every row meets it.
    pub(super) fn of(filter: &Filter) -> Option<Self> {
        let mut all = Self::default();
        let text = |text: &str| Value::from(text.to_owned());
        let integer = |number: u64| Value::from(i64::try_from(number).unwrap_or(i64::MAX));
        // In the order of the columns: SQLite takes a row apart up to the first condition that it does not meet, from left to right.
        if let Some(outcome) = filter.outcome {
            all.and_own("outcome = ?", [Value::from(outcome as i64)]);
        }
        if let Some(codes) = filter.response_code {
            all.and_own("response_code BETWEEN ? AND ?", [codes.first, codes.last].map(|code| integer(code.into())));
        }
        if let Some(millis) = filter.min_duration_ms {
            all.and_own("duration_us >= ?", [integer(millis.saturating_mul(1_000))]);
        }
        if let Some(since) = filter.since {
            all.and_own("timestamp_ms >= ?", [Value::from(since.unix_ms)]);
        }
        if let Some(until) = filter.until {
            all.and_own("timestamp_ms < ?", [Value::from(until.unix_ms)]);
        }
        if let Some(method) = &filter.method {
            all.and_common("method = ?", [text(method)]);
        }
        match &filter.path {
            Some(PathPattern::Exact(path)) => all.and_common("path = ?", [text(path)]),
            Some(PathPattern::Prefix(prefix)) => {
                let characters = integer(prefix.chars().count() as u64);
                all.and_common("substr(path, 1, ?) = ?", [characters, text(prefix)]);
            }
            None => {}
        }
        if let Some(operation_id) = &filter.operation_id {
            let numbers = "operation IN (SELECT number FROM operation WHERE operation_id = ?)";
            all.and_common(numbers, [text(operation_id)]);
        }
        if let Some(user) = &filter.user {
            all.and_common("user = ?", [text(user)]);
        }
        if let Some(role) = &filter.role {
            all.and_common("instr(char(10) || roles || char(10), ?) > 0", [text(&format!("\n{role}\n"))]);
        }
        if let Some(network) = filter.source_ip {
            let (first, last) = network.ends();
            let bytes = integer(first.len() as u64);
            all.and_common(
                "length(source_ip) = ? AND source_ip BETWEEN ? AND ?",
                [bytes, Value::Blob(first), Value::Blob(last)],
            );
        }
        (!all.values.is_empty()).then_some(all)
    }

    fn and_own<const N: usize>(&mut self, condition: &str, values: [Value; N]) {
        let condition = self.number(condition, values);
        self.own.push_str(&condition);
    }

    fn and_common<const N: usize>(&mut self, condition: &str, values: [Value; N]) {
        let condition = self.number(condition, values);
        self.common.push_str(&condition);
    }

    /// The condition with an `AND` before it, whose `?` are these values.
    fn number<const N: usize>(&mut self, condition: &str, values: [Value; N]) -> String {
        let mut sql = " AND ".to_owned();
        let mut number = Self::FIRST_PARAMETER + self.values.len();
        for character in condition.chars() {
            sql.push(character);
            if character == '?' {
                sql.push_str(&number.to_string());
                number += 1;
            }
        }
        self.values.extend(values);
        sql
    }

    /// What follows `WHERE ordinal >= ?1 AND ordinal < ?2` in a statement over the entries of a class.
    pub(super) fn sql(&self, class: Class, columns: Columns) -> String {
        let Self { own, common, .. } = self;
        match columns {
            _ if common.is_empty() => own.clone(),
            Columns::Own => format!("{own} AND common IN (SELECT number {})", self.of_common(class)),
            Columns::Inline => {
                let named = self.of_common(class);
                format!("{own} AND iif(common IS NULL, 1{common}, common IN (SELECT number {named}))")
            }
        }
    }

    /// The part of a span in which entries can meet the conditions: a class in whose part nothing that entries have in common does is
    /// passed over without a look at them.
    pub(super) fn narrow(
        &self,
        transaction: &Transaction<'_>,
        memory: &mut Memory,
        span: &Span,
    ) -> rusqlite::Result<[Piece; 3]> {
        let all = Piece { ordinals: 0..0, after: 0, up_to: u64::MAX >> 1 };
        let mut pieces = span.clone().map(|ordinals| Piece { ordinals, ..all.clone() });
        if self.common.is_empty() || Columns::of(transaction, memory)? == Columns::Inline {
            return Ok(pieces);
        }
        for (class, piece) in Class::ALL.into_iter().zip(&mut pieces) {
            if piece.ordinals.is_empty() {
                continue;
            }
            (piece.after, piece.up_to) = named(transaction, memory, class, &piece.ordinals)?;
            let sql = format!("SELECT EXISTS (SELECT 1 {})", self.of_common(class));
            let mut statement = transaction.prepare_cached(&sql)?;
            self.bind(&mut statement, piece)?;
            let mut rows = statement.raw_query();
            if !rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?.get::<_, bool>(0)? {
                piece.ordinals.end = piece.ordinals.start;
            }
        }
        Ok(pieces)
    }

    /// The rows that meet the conditions, of those that the entries of a piece can name.
    fn of_common(&self, class: Class) -> String {
        format!("FROM {}_common WHERE number > ?3 AND number <= ?4{}", class.as_str(), self.common)
    }

    /// Binds the values for a piece.
    pub(super) fn bind(&self, statement: &mut Statement<'_>, piece: &Piece) -> rusqlite::Result<()> {
        let Piece { ordinals, after, up_to } = piece;
        let numbers = [ordinals.start, ordinals.end, *after, *up_to].map(|number| Value::from(number.cast_signed()));
        // A statement that has only a part of the conditions has no more parameters than the last of them.
        let asked = statement.parameter_count();
        (1..=asked)
            .zip(numbers.iter().chain(&self.values))
            .try_for_each(|(number, value)| statement.raw_bind_parameter(number, value))
    }
}

/// Entries of a class to be looked at.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Their ordinals.
    pub(super) ordinals: Range<u64>,
    /// What they have in common with others has a number above this one, and this one at most.
    after: u64,
    up_to: u64,
}

/// Behind which number and up to which one is what these entries name: nothing that is older than the extent of the first of them.
fn named(
    transaction: &Transaction<'_>,
    memory: &mut Memory,
    class: Class,
    ordinals: &Range<u64>,
) -> rusqlite::Result<(u64, u64)> {
    let extent: Option<u64> = transaction
        .prepare_cached(
            "SELECT max(first_ordinal) FROM extent WHERE class = ?1 AND first_ordinal <= ?2 \
                AND first_ordinal > (SELECT min(first_ordinal) FROM extent WHERE class = ?1)",
        )?
        .query_row([class.index() as u64, ordinals.start], |row| row.get(0))?;
    // Of the oldest extent a part may have been evicted, whose last seq is no bound.
    let after = extent.map_or(Ok(0), |first| memory.seq_at(transaction, class, first - 1))?;
    Ok((after, memory.seq_at(transaction, class, ordinals.end - 1)?))
}

/// Whether a filter lets entries of a class through.
pub(super) fn takes(filter: &Filter, class: Class) -> bool {
    filter.class.is_none_or(|wanted| wanted == class)
}
