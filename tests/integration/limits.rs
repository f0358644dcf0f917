//! How often one may call: by address, by user, and with bad credentials.

use serde_json::json;

use crate::support::{Agent, Node, Request, assert_is_error};

/// An agent in production with these limits, which --dev does not have.
fn agent(limits: &str) -> Agent {
    let node = Node::new("");
    let root = node.folder().join("root");
    std::fs::create_dir(&root).unwrap();
    let config =
        format!("host.root = {:?}\n[limits]\n{limits}\n[proxy]\ntrusted = [\"127.0.0.1\"]\n", root.to_str().unwrap());
    std::fs::create_dir_all(root.join("proc/sys/kernel/random")).unwrap();
    std::fs::copy("/proc/sys/kernel/random/boot_id", root.join("proc/sys/kernel/random/boot_id")).unwrap();
    std::fs::write(node.folder().join("nodeaudit.toml"), config).unwrap();
    node.production().start()
}

fn from(client: &str) -> Request {
    Request::get("/health").header("X-Forwarded-For", client)
}

#[test]
fn an_address_that_calls_too_often_is_told_when_to_come_again_and_recorded() {
    let agent = agent("peer_per_s = 1\npeer_burst = 5");
    let mut connection = agent.connect();
    assert!((0..5).all(|_| connection.call(&from("198.51.100.1")).status == 200));
    for request in [from("198.51.100.1"), from("198.51.100.1, 127.0.0.1"), from("10.0.0.1, ::ffff:198.51.100.1")] {
        let refused = connection.call(&request);
        assert_is_error(&refused, 429);
        assert_eq!(refused.header("Retry-After"), Some("1"));
        let entry = agent.entry_of(&refused);
        assert_eq!((&entry["class"], &entry["response_code"]), (&json!("denied"), &json!(429)));
        assert_eq!((&entry["source_ip"], &entry["forwarded_for"]), (&json!("127.0.0.1"), &json!("198.51.100.1")));
    }
    let unknown = Request::get("/nowhere").header("X-Forwarded-For", "198.51.100.1");
    assert_eq!(connection.call(&unknown).status, 429, "whatever is called");
    assert_eq!(connection.call(&from("198.51.100.2")).status, 200, "another client of that proxy");
}

#[test]
fn a_user_who_calls_too_often_is_refused_wherever_he_calls_from() {
    let agent = agent("actor_per_s = 1\nactor_burst = 3");
    let token = agent.token(&["read"]);
    let call = |number: usize| {
        let request = Request::get("/version").bearer(&token).header("X-Forwarded-For", format!("198.51.100.{number}"));
        agent.call(&request)
    };
    let answers: Vec<_> = (1..=4).map(call).collect();
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 200, 200, 429]);
    let someone = agent.sign(&json!({"sub": "someone", "exp": crate::support::now_s() + 60, "roles": ["admin"]}));
    let look = Request::get(&format!("/audit/{}", answers[3].audit_id())).bearer(&someone);
    let entry = agent.call(&look).json()["entry"].take();
    assert_eq!((&entry["class"], &entry["user"]), (&json!("denied"), &json!("tester@example.com")), "{entry}");
}

#[test]
fn bad_credentials_are_slowed_down_and_good_ones_from_there_let_in() {
    let agent = agent("failures_per_min = 1\nfailures_burst = 3");
    let guess = Request::get("/version").bearer("a.b.c");
    let answers: Vec<_> = (0..5).map(|_| agent.call(&guess)).collect();
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [401, 401, 401, 429, 429]);
    let wait: u64 = answers[4].header("Retry-After").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(agent.entry_of(&answers[4])["response_code"], 429);
    assert_eq!(agent.call(&Request::get("/version").bearer(&agent.token(&["read"]))).status, 200);
    assert_eq!(agent.call(&Request::get("/version")).status, 401, "no credential is no guess");
}

#[test]
fn a_rate_of_0_is_no_limit() {
    let agent = agent("peer_per_s = 0\npeer_burst = 1\nactor_per_s = 0\nactor_burst = 1");
    let request = Request::get("/version").bearer(&agent.token(&["read"]));
    let mut connection = agent.connect();
    assert!((0..50).all(|_| connection.call(&request).status == 200));
}
