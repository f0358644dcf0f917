//! Queries, against a whole agent: what is accepted is what the API description says, and what is answered fits it.
//!
//! The first byte chooses the operation: `a` the list, `e` the export, `s` one that takes no query, `i` one entry by its ID.
//! The rest is the query or the ID; bytes that can't stand in a target are percent-encoded. The expectation is a second reading of
//! `application/x-www-form-urlencoded`.
#![no_main]

use std::fmt::Write as _;

use libfuzzer_sys::{Corpus, fuzz_target};
use nodeaudit::audit::Filter;
use nodeaudit_fuzz::AGENT;
use serde_json::Value;

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((operation, text)) = input.split_first() else { return Corpus::Reject };
    let text = as_target(text);
    match operation {
        b'a' => list(&text),
        b'e' => export(&text),
        b's' => no_query(&text),
        b'i' => by_id(&text),
        _ => return Corpus::Reject,
    }
    Corpus::Keep
});

fn list(query: &str) {
    let (filters, mut pairs): (Vec<_>, Vec<_>) =
        pairs(query).into_iter().partition(|(name, _)| Filter::NAMES.contains(&name.as_str()));
    let formats: Vec<_> = pairs.extract_if(.., |(name, _)| name == "format").map(|(_, format)| format).collect();
    if formats.iter().any(|format| format == "sse") {
        // A stream, which has no end.
        return;
    }
    let (status, body) = AGENT.get(&format!("/audit?{query}"));
    if pairs.iter().any(|(name, _)| CURSOR_NAMES.contains(&name.as_str())) {
        assert!(matches!(status, 200 | 400), "{query}: {status}");
        return;
    }
    let is_format = match formats.as_slice() {
        [] => true,
        [format] => matches!(format.as_str(), "json" | "ndjson" | "csv" | "journal"),
        _ => false,
    };
    let page = if are_filters(&filters) && is_format { page(&pairs) } else { None };
    let Some((limit, offset)) = page else {
        assert_eq!(status, 400, "{query}");
        return;
    };
    assert_eq!(status, 200, "{query}: {}", body.escape_ascii());
    if formats.first().is_some_and(|format| format != "json") {
        return;
    }
    let page: Value = serde_json::from_slice(&body).expect("a page is JSON");
    let total = page["total_items"].as_u64().expect("a total");
    let seqs: Vec<_> = page["items"].as_array().expect("items").iter().map(|entry| entry["seq"].as_u64()).collect();
    // How many a filter lets through is the total; which ones, the tests ask.
    assert_eq!(seqs.len() as u64, limit.min(total.saturating_sub(offset)), "{query}: {total}");
    assert!(seqs.is_sorted_by(|newer, older| newer > older), "{query}: {seqs:?}");
}

/// What chooses a page by a place between two entries: the tests follow such pages.
const CURSOR_NAMES: [&str; 6] = ["after", "before", "as_of", "epoch", "known", "wait"];

/// Whether each of them is one, and none comes twice.
fn are_filters(pairs: &[(String, String)]) -> bool {
    let is_second = |(index, (name, _)): (usize, &(String, String))| pairs[..index].iter().any(|pair| pair.0 == *name);
    let parsed = Filter::parse(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())), 0);
    parsed.is_ok() && !pairs.iter().enumerate().any(is_second)
}

/// Limit and offset, if nothing is wrong with the pairs.
fn page(pairs: &[(String, String)]) -> Option<(u64, u64)> {
    let (mut limit, mut offset) = (None, None);
    for (name, value) in pairs {
        let slot = match name.as_str() {
            "limit" => &mut limit,
            "offset" => &mut offset,
            _ => return None,
        };
        let is_decimal = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let number = value.parse::<u64>().ok().filter(|number| is_decimal && *number < 1 << 63)?;
        if slot.replace(number).is_some() {
            return None;
        }
    }
    let limit = limit.unwrap_or(20);
    (1..=100).contains(&limit).then_some((limit, offset.unwrap_or(0)))
}

fn export(query: &str) {
    let (status, body) = AGENT.get(&format!("/audit/export?{query}"));
    let (filters, pairs): (Vec<_>, Vec<_>) =
        pairs(query).into_iter().partition(|(name, _)| Filter::NAMES.contains(&name.as_str()));
    if !are_filters(&filters) {
        assert_eq!(status, 400, "{query}");
        return;
    }
    match pairs.as_slice() {
        [] => drop(serde_json::from_slice::<Value>(&body).expect("an export is JSON")),
        [(name, format)] if name == "format" && format == "json" => {
            drop(serde_json::from_slice::<Value>(&body).expect("an export is JSON"));
        }
        [(name, format)] if name == "format" && format == "ndjson" => {
            for line in body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                serde_json::from_slice::<Value>(line).expect("a line is JSON");
            }
        }
        [(name, format)] if name == "format" && matches!(format.as_str(), "csv" | "journal") => {}
        _ => {
            assert_eq!(status, 400, "{query}");
            return;
        }
    }
    assert_eq!(status, 200, "{query}");
}

fn no_query(query: &str) {
    let (status, _) = AGENT.get(&format!("/audit/status?{query}"));
    assert_eq!(status, if query.is_empty() { 200 } else { 400 }, "{query}");
}

fn by_id(id: &str) {
    let (status, body) = AGENT.get(&format!("/audit/{id}"));
    if status == 200 {
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        let named = matches!(id, "export" | "status") || body["entry"]["id"].as_str() == Some(&id.to_ascii_lowercase());
        assert!(named, "{id}: {body}");
    } else {
        assert!(matches!(status, 400 | 404), "{id}: {status}");
    }
}

/// Bytes that no part of a request target may have, percent-encoded; `%` and what follows it stay.
fn as_target(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"%&=+-._~!$'()*,;:@".contains(&byte) {
            text.push(byte.into());
        } else {
            write!(text, "%{byte:02X}").expect("writing to a String can't fail");
        }
    }
    text
}

/// Names and values (URL Standard, section 5.1).
fn pairs(query: &str) -> Vec<(String, String)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|hex| byte == b'%' && hex.iter().all(u8::is_ascii_hexdigit));
        let hex = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        rest = if hex.is_some() { &after[2..] } else { after };
        bytes.push(hex.unwrap_or(if byte == b'+' { b' ' } else { byte }));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
