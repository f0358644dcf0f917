//! Rows of the three classes in one order.

use std::ops::{ControlFlow, Range};

use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator as _;
use rusqlite::{Row, Rows, Transaction};

use super::memory::Memory;
use super::predicate::Predicate;
use super::rows::{Columns, ORDINAL, SEQ, serve};
use crate::audit::class::Class;
use crate::audit::entry::{Seq, ServedEntry};
use crate::audit::ring::damaged;

/// In which order entries are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By falling seq.
    NewestFirst,
    /// By rising seq.
    OldestFirst,
}

/// The ordinals of each class that are to be read.
pub(super) type Span = [Range<u64>; 3];

/// Visits the entries of a span that meet the predicate, `limit` at most and up to where `visit` stops, and takes off the span what was
/// read.
pub(super) fn merge(
    transaction: &Transaction<'_>,
    memory: &mut Memory,
    span: &mut Span,
    order: Order,
    predicate: Option<&Predicate>,
    limit: u64,
    visit: &mut dyn FnMut(&ServedEntry<'_>) -> ControlFlow<()>,
) -> rusqlite::Result<u64> {
    let columns = Columns::of(transaction, memory)?;
    let direction = if order == Order::NewestFirst { "DESC" } else { "" };
    let [change, read, denied] = Class::ALL.map(|class| {
        let condition = predicate.map_or_else(String::new, |predicate| predicate.sql(class, columns));
        let clause = format!("WHERE ordinal >= ?1 AND ordinal < ?2{condition} ORDER BY ordinal {direction}");
        transaction.prepare_cached(&columns.select(class, &clause))
    });
    let mut statements = [change?, read?, denied?];
    match predicate {
        Some(predicate) => {
            let pieces = predicate.narrow(transaction, memory, span)?;
            statements.iter_mut().zip(&pieces).try_for_each(|(statement, piece)| predicate.bind(statement, piece))?;
        }
        None => statements.iter_mut().zip(&*span).try_for_each(|(statement, range)| {
            statement.raw_bind_parameter(1, range.start)?;
            statement.raw_bind_parameter(2, range.end)
        })?,
    }
    let mut sources = statements.each_mut().map(|statement| statement.raw_query());
    let mut heads = [None; 3];
    for class in 0..3 {
        heads[class] = advance(&mut sources[class])?;
    }
    let mut visited = 0;
    let mut flow = ControlFlow::Continue(());
    while visited < limit && flow.is_continue() {
        let open = (0..3).filter_map(|class| heads[class].map(|Head { seq, .. }| (seq, class)));
        let next = if order == Order::NewestFirst { open.max() } else { open.min() };
        let Some((_, class)) = next else { break };
        let row = head(&sources[class])?;
        let ordinal = match (predicate, order) {
            // Ordinals have no gap: another one means that an entry is missing.
            (None, Order::OldestFirst) => span[class].start,
            (None, Order::NewestFirst) => span[class].end - 1,
            (Some(_), _) => row.get(ORDINAL)?,
        };
        serve(transaction, memory, Class::ALL[class], ordinal, row, columns, &mut |entry| flow = visit(entry))?;
        take(&mut span[class], order, ordinal);
        heads[class] = advance(&mut sources[class])?;
        visited += 1;
    }
    for class in 0..3 {
        match heads[class] {
            // What lies before the next one that meets the predicate does not meet it.
            Some(Head { ordinal, .. }) if predicate.is_some() => skip_to(&mut span[class], order, ordinal),
            Some(_) => {}
            None if predicate.is_none() && !span[class].is_empty() => return Err(damaged("an entry is missing")),
            None => exhaust(&mut span[class], order),
        }
    }
    Ok(visited)
}

/// Stops at none.
pub(super) fn each(mut visit: impl FnMut(&ServedEntry<'_>)) -> impl FnMut(&ServedEntry<'_>) -> ControlFlow<()> {
    move |entry| {
        visit(entry);
        ControlFlow::Continue(())
    }
}

/// How many entries of a span meet the predicate.
pub(super) fn count(
    transaction: &Transaction<'_>,
    memory: &mut Memory,
    span: &Span,
    predicate: &Predicate,
) -> rusqlite::Result<u64> {
    let columns = Columns::of(transaction, memory)?;
    let mut total = 0;
    for (class, piece) in Class::ALL.into_iter().zip(&predicate.narrow(transaction, memory, span)?) {
        if piece.ordinals.is_empty() {
            continue;
        }
        let (table, condition) = (class.as_str(), predicate.sql(class, columns));
        let sql = format!("SELECT count(*) FROM {table} WHERE ordinal >= ?1 AND ordinal < ?2{condition}");
        let mut statement = transaction.prepare_cached(&sql)?;
        predicate.bind(&mut statement, piece)?;
        let mut rows = statement.raw_query();
        total += rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?.get::<_, u64>(0)?;
    }
    Ok(total)
}

/// The next row of a class.
#[derive(Clone, Copy)]
struct Head {
    seq: Seq,
    ordinal: u64,
}

/// Steps to the next row.
fn advance(source: &mut Rows<'_>) -> rusqlite::Result<Option<Head>> {
    source.advance()?;
    source.get().map(|row| Ok(Head { seq: Seq(row.get(SEQ)?), ordinal: row.get(ORDINAL)? })).transpose()
}

fn head<'r>(source: &'r Rows<'_>) -> rusqlite::Result<&'r Row<'r>> {
    source.get().ok_or(rusqlite::Error::QueryReturnedNoRows)
}

/// Takes an ordinal off, and what lies before it in that order.
fn take(range: &mut Range<u64>, order: Order, ordinal: u64) {
    match order {
        Order::NewestFirst => range.end = ordinal,
        Order::OldestFirst => range.start = ordinal + 1,
    }
}

/// Takes all off.
fn exhaust(range: &mut Range<u64>, order: Order) {
    match order {
        Order::NewestFirst => range.end = range.start,
        Order::OldestFirst => range.start = range.end,
    }
}

/// Takes off what lies before an ordinal in that order.
fn skip_to(range: &mut Range<u64>, order: Order, ordinal: u64) {
    match order {
        Order::NewestFirst => range.end = ordinal + 1,
        Order::OldestFirst => range.start = ordinal,
    }
}
