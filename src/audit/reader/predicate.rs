//! A filter as a condition in SQL, with its values as bound parameters.

use rusqlite::Statement;
use rusqlite::types::Value;

use crate::audit::class::Class;
use crate::audit::filter::{Filter, PathPattern};

/// What rows have to meet beside standing in the table of their class.
#[derive(Clone, Debug, Default)]
pub(super) struct Predicate {
    /// Conditions, each with an `AND` before it.
    sql: String,
    values: Vec<Value>,
}

impl Predicate {
    /// Parameters before those of the predicate.
    pub(super) const FIRST_PARAMETER: usize = 3;

    /// The filter without its class, which chooses among tables. None: every row meets it.
    pub(super) fn of(filter: &Filter) -> Option<Self> {
        let mut all = Self::default();
        let text = |text: &str| Value::from(text.to_owned());
        let integer = |number: u64| Value::from(i64::try_from(number).unwrap_or(i64::MAX));
        // In the order of the columns: SQLite takes a row apart up to the first condition that it does not meet, from left to right.
        if let Some(outcome) = filter.outcome {
            all.and("outcome = ?", [Value::from(outcome as i64)]);
        }
        if let Some(codes) = filter.response_code {
            all.and("response_code BETWEEN ? AND ?", [codes.first, codes.last].map(|code| integer(code.into())));
        }
        if let Some(millis) = filter.min_duration_ms {
            all.and("duration_us >= ?", [integer(millis.saturating_mul(1_000))]);
        }
        if let Some(since) = filter.since {
            all.and("timestamp_ms >= ?", [Value::from(since.unix_ms)]);
        }
        if let Some(until) = filter.until {
            all.and("timestamp_ms < ?", [Value::from(until.unix_ms)]);
        }
        if let Some(method) = &filter.method {
            all.and("method = ?", [text(method)]);
        }
        match &filter.path {
            Some(PathPattern::Exact(path)) => all.and("path = ?", [text(path)]),
            Some(PathPattern::Prefix(prefix)) => {
                let characters = integer(prefix.chars().count() as u64);
                all.and("substr(path, 1, ?) = ?", [characters, text(prefix)]);
            }
            None => {}
        }
        if let Some(operation_id) = &filter.operation_id {
            let numbers = "operation IN (SELECT number FROM operation WHERE operation_id = ?)";
            all.and(numbers, [text(operation_id)]);
        }
        if let Some(user) = &filter.user {
            all.and("user = ?", [text(user)]);
        }
        if let Some(role) = &filter.role {
            all.and("instr(char(10) || roles || char(10), ?) > 0", [text(&format!("\n{role}\n"))]);
        }
        if let Some(network) = filter.source_ip {
            let (first, last) = network.ends();
            let bytes = integer(first.len() as u64);
            all.and(
                "length(source_ip) = ? AND source_ip BETWEEN ? AND ?",
                [bytes, Value::Blob(first), Value::Blob(last)],
            );
        }
        (!all.values.is_empty()).then_some(all)
    }

    /// Adds a condition whose `?` are these values.
    fn and<const N: usize>(&mut self, condition: &str, values: [Value; N]) {
        self.sql.push_str(" AND ");
        let mut number = Self::FIRST_PARAMETER + self.values.len();
        for character in condition.chars() {
            self.sql.push(character);
            if character == '?' {
                self.sql.push_str(&number.to_string());
                number += 1;
            }
        }
        self.values.extend(values);
    }

    /// What follows the conditions of a `WHERE`.
    pub(super) fn sql(&self) -> &str {
        &self.sql
    }

    /// Binds the values.
    pub(super) fn bind(&self, statement: &mut Statement<'_>) -> rusqlite::Result<()> {
        let numbered = (Self::FIRST_PARAMETER..).zip(&self.values);
        numbered.into_iter().try_for_each(|(number, value)| statement.raw_bind_parameter(number, value))
    }
}

/// Whether a filter lets entries of a class through.
pub(super) fn takes(filter: &Filter, class: Class) -> bool {
    filter.class.is_none_or(|wanted| wanted == class)
}
