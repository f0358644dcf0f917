//! Least authority, however a path is spelt: no other spelling of an operation's path reaches its handler unrecorded or unauthorised.

use nodeaudit::api;

use crate::support::{Agent, Ledger, Node, Request};

/// The path with each of its letters percent-encoded in turn, all of them, and what else might be normalised away.
fn spellings(path: &str) -> Vec<String> {
    let encoded = |byte: u8| format!("%{byte:02x}");
    let letters = path.char_indices().filter(|(_, letter)| letter.is_ascii_alphabetic());
    let one = letters.map(|(at, letter)| format!("{}{}{}", &path[..at], encoded(letter as u8), &path[at + 1..]));
    let all: String =
        path.bytes().map(|b| if b.is_ascii_alphabetic() { encoded(b) } else { char::from(b).into() }).collect();
    let upper = all.to_uppercase();
    let others = [
        format!("{path}/"),
        format!("/{path}"),
        format!("{path}//"),
        format!("/.{path}"),
        format!("/x/..{path}"),
        format!("/%2e%2e{path}"),
        format!("/{}", path[1..].replace('/', "%2f")),
        path.to_uppercase(),
        format!("{path};x"),
        format!("{path}%00"),
        format!("{path}%20"),
    ];
    one.chain([all, upper]).chain(others).collect()
}

#[test]
fn no_spelling_of_a_path_lets_a_stranger_in_and_each_is_recorded() {
    refuse_strangers("");
}

#[test]
fn no_spelling_of_a_path_lets_a_stranger_in_below_a_base_path() {
    refuse_strangers("/api/v1");
}

fn refuse_strangers(base_path: &str) {
    let config = format!("[server]\nbase_path = \"{base_path}\"\n[auth]\nanonymous_permissions = []\n");
    let agent = Node::new(&config).start();
    let nothing = agent.token_for(&[]);
    let mut ledger = Ledger::open(&agent);
    for operation in api::endpoints().iter().map(|endpoint| endpoint.operation) {
        if operation.permission == nodeaudit::auth::Permission::Public {
            continue;
        }
        let path = format!("{base_path}{}", operation.path.replace(['{', '}'], ""));
        for spelling in spellings(&path) {
            let method = operation.method.as_str();
            let anonymous = agent.call(&Request::new(method, &spelling));
            let known = agent.call(&Request::new(method, &spelling).bearer(&nothing));
            let statuses = (anonymous.status, known.status);
            let by_operation = [(401, 403), (404, 404), (405, 405), (400, 400)];
            assert!(by_operation.contains(&statuses), "{method} {spelling}: {statuses:?}");
            let news = ledger.news();
            assert_eq!(news.len(), 2, "{method} {spelling}: {news:#?}");
            for (entry, status) in news.iter().zip([anonymous.status, known.status]) {
                assert_eq!(entry["response_code"], status, "{method} {spelling}");
            }
            if statuses == (401, 403) {
                // Another spelling can be another operation: `/audit/STATUS` asks for an entry of that ID.
                assert!(
                    news.iter().all(|entry| entry["operation_id"] != "" && entry["class"] == "denied"),
                    "{news:#?}"
                );
            }
        }
    }
}

#[test]
fn an_encoded_change_is_a_change() {
    let agent = Agent::start();
    let admin = agent.token(&["admin"]);
    let put = |path: &str| Request::new("PUT", path).json(r#"{"hostname": "node-7"}"#).bearer(&admin);
    let entry = agent.entry_of(&agent.call(&put("/node/%68ostname")));
    assert_eq!(entry["operation_id"], "PutNodeHostname");
    assert_eq!(entry["class"], "change");
    assert_eq!(entry["path"], "/node/%68ostname", "as it was received");
}
