//! Filters as they are drawn, and a reading of them that knows nothing of SQL: over the served JSON.

use std::net::IpAddr;

use nodeaudit::host::clock;
use proptest::prelude::*;
use serde_json::Value;

/// Name and value, as in a query.
pub(super) type Pair = (&'static str, String);

/// Values of a name that are drawn, most of which some entry meets.
fn pair(name: &'static str, values: &'static [&'static str]) -> impl Strategy<Value = Option<Pair>> {
    prop::option::weighted(0.25, prop::sample::select(values)).prop_map(move |value| Some((name, value?.to_owned())))
}

/// Some filters, each name once.
pub(super) fn pairs() -> impl Strategy<Value = Vec<Pair>> {
    let who = (
        pair("user", &["", "ops", "ops@example.com", "nobody"]),
        pair("role", &["admin", "read", "administrator", "dmin"]),
        pair(
            "source_ip",
            &["10.0.0.1", "10.0.0.0/8", "0.0.0.0/0", "::/0", "fd00::/16", "fd00:1::/32", "::ffff:10.0.0.0/104"],
        ),
    );
    let what = (
        pair("method", &["GET", "PUT"]),
        pair("path", &["/node", "/node/*", "/node/host*", "*", "/n\u{e9}*", "/n\u{e9}/**", "/audit/"]),
        pair("operation_id", &["GetNodeHostname", "GetNodeOs", "NoSuch"]),
    );
    let how = (
        pair("response_code", &["0", "403", "4xx", ">=500", ">404", "<404", "<=404", "<0", ">999"]),
        pair("outcome", &["completed", "interrupted"]),
        pair("class", &["change", "read", "denied"]),
        pair("min_duration_ms", &["0", "7", "19", "20"]),
    );
    let moment = |name| {
        // Often the very time of an entry.
        let value = (0_i64..21_000).prop_map(|s| clock::rfc3339(super::BEGIN_MS + s * 1_000));
        prop::option::weighted(0.25, value).prop_map(move |value| Some((name, value?)))
    };
    (who, what, how, moment("since"), moment("until")).prop_map(|(who, what, how, since, until)| {
        let all = [who.0, who.1, who.2, what.0, what.1, what.2, how.0, how.1, how.2, how.3, since, until];
        all.into_iter().flatten().collect()
    })
}

/// Whether an entry meets them all.
pub(super) fn matches(entry: &Value, pairs: &[Pair]) -> bool {
    pairs.iter().all(|(name, value)| meets(entry, name, value))
}

fn meets(entry: &Value, name: &str, value: &str) -> bool {
    let text = |field: &str| entry[field].as_str().unwrap();
    match name {
        "role" => entry["roles"].as_array().unwrap().iter().any(|role| role == value),
        "path" => match value.strip_suffix('*') {
            Some(prefix) => text("path").starts_with(prefix),
            None => text("path") == value,
        },
        "source_ip" => is_within(text("source_ip").parse().unwrap(), value),
        "response_code" => is_code(entry["response_code"].as_u64().unwrap(), value),
        // All are written alike: they are ordered as texts are.
        "since" => text("timestamp") >= value,
        "until" => text("timestamp") < value,
        "min_duration_ms" => entry["duration_us"].as_u64().unwrap() >= value.parse::<u64>().unwrap() * 1_000,
        _ => text(name) == value,
    }
}

fn is_code(code: u64, value: &str) -> bool {
    let number = |text: &str| text.parse::<u64>().unwrap();
    if let Some(hundreds) = value.strip_suffix("xx") {
        return code / 100 == number(hundreds);
    }
    for (sign, compare) in [(">=", u64::ge as fn(&u64, &u64) -> bool), ("<=", u64::le), (">", u64::gt), ("<", u64::lt)]
    {
        if let Some(limit) = value.strip_prefix(sign) {
            return compare(&code, &number(limit));
        }
    }
    code == number(value)
}

/// Bit by bit. An IPv4 address is none of the IPv6 ones.
fn is_within(address: IpAddr, network: &str) -> bool {
    let network = network.strip_prefix("::ffff:").map_or(network.to_owned(), |v4| v4.replace("/104", "/8"));
    let (first, bits) = network.split_once('/').unwrap_or((&network, "128"));
    let bits_of = |address: IpAddr| -> Vec<bool> {
        let octets = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        octets.iter().flat_map(|octet| (0..8).map(move |bit| octet >> (7 - bit) & 1 == 1)).collect()
    };
    let (address, first) = (bits_of(address), bits_of(first.parse().unwrap()));
    let compared = bits.parse::<usize>().unwrap().min(first.len());
    address.len() == first.len() && address[..compared] == first[..compared]
}
