//! Something in the ring file, or someone who reads it, stands in the writer's way: nothing is answered as if it were stored, and the
//! store goes on by itself.

use crate::support::{Agent, Connection, Node, Request, assert_is_error, eventually, open_intents};

fn ring(agent: &Agent) -> rusqlite::Connection {
    let path = agent.node().state_dir().join(nodeaudit::audit::ring::FILE_NAME);
    let ring = rusqlite::Connection::open(path).unwrap();
    ring.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    ring
}

fn change(agent: &Agent) -> Request {
    Request::new("POST", "/node/power/reboot").bearer(&agent.token(&["admin"]))
}

#[test]
fn a_refused_intent_stops_its_change_and_nothing_else() {
    let agent = Agent::start();
    let ring = ring(&agent);
    ring.execute_batch("CREATE TRIGGER no BEFORE INSERT ON intent BEGIN SELECT raise(ABORT, 'no'); END").unwrap();
    let refusal = assert_is_error(&agent.call(&change(&agent)), 503);
    assert!(refusal.contains("did not take the record"), "{refusal}");
    assert_eq!(agent.call(&Request::get("/health/ready")).status, 200, "one bad record does not stop the store");
    ring.execute_batch("DROP TRIGGER no").unwrap();
    let answered = agent.call(&change(&agent));
    assert_eq!(agent.entry_of(&answered)["class"], "change");
}

#[test]
fn a_refused_entry_is_not_answered_as_if_it_were_stored() {
    let agent = Agent::start();
    let ring = ring(&agent);
    ring.execute_batch("CREATE TRIGGER no BEFORE INSERT ON change BEGIN SELECT raise(ABORT, 'no'); END").unwrap();
    let refusal = assert_is_error(&agent.call(&change(&agent)), 503);
    assert!(refusal.contains("not on stable storage"), "{refusal}");
    assert_eq!(open_intents(agent.node()), 1, "the next start tells of it");
    assert_eq!(agent.call(&Request::get("/health/ready")).status, 200, "one bad record does not stop the store");
    ring.execute_batch("DROP TRIGGER no").unwrap();
    assert_eq!(agent.entry_of(&agent.call(&change(&agent)))["class"], "change");
}

#[test]
fn a_program_that_never_ends_its_read_can_not_make_the_ring_grow() {
    let agent = Node::new("[audit]\nmax_entries = 2000\nmax_bytes = 1048576\n").start();
    let reader = ring(&agent);
    agent.read("/audit/status");
    reader.execute_batch("BEGIN").unwrap();
    let _held: u64 = reader.query_row("SELECT count(*) FROM read", [], |row| row.get(0)).unwrap();
    let mut connection = Connection::open(agent.address());
    let request = Request::get("/node/load").bearer(&agent.token(&["read"]));
    let mut newest = String::new();
    let fills = (0..20_000).any(|_| {
        let answer = connection.call(&request);
        if answer.status == 200 {
            answer.audit_id().clone_into(&mut newest);
        }
        answer.status == 503
    });
    assert!(fills, "the WAL has to fill");
    let status = agent.read("/audit/status");
    assert_eq!(status["health"], "failing", "{status}");
    assert!(status["failure"].as_str().unwrap().contains("WAL is full"), "{status}");
    assert!(status["bytes"].as_u64() <= status["max_bytes"].as_u64(), "{status}");
    // What can't be shown now has to be news once it can be: no tag says that the caller has it.
    let page = agent.call(&Request::get("/audit").bearer(&agent.token(&["auditor"])));
    assert!(page.header("Audit-Pending").is_some(), "{page:?}");
    assert_eq!((page.status, page.header("ETag")), (200, None));
    let entry = Request::get(&format!("/audit/{newest}")).bearer(&agent.token(&["auditor"]));
    let told = assert_is_error(&agent.call(&entry), 503);
    assert!(told.contains("not on stable storage yet"), "it is neither unknown nor evicted: {told}");
    reader.execute_batch("COMMIT").unwrap();
    eventually("a store that works again", || (agent.call(&Request::get("/health/ready")).status == 200).then_some(()));
}
