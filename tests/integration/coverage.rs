//! Nothing unrecorded: every operation that the running agent describes, called by nobody, by someone who may not, and by
//! someone who may, leaves exactly one entry each time, and the right one.

use std::collections::{BTreeMap, BTreeSet};

use nodeaudit::api;
use nodeaudit::auth::Permission;
use nodeaudit::operation::Operation;
use serde_json::Value;

use crate::support::{Agent, Ledger, Node, Request, Response};

/// What makes a call of an operation valid, and how an agent in development mode answers it.
struct Call {
    operation_id: &'static str,
    /// Path parameters and their values.
    path: &'static [(&'static str, &'static str)],
    body: Option<&'static str>,
    /// The statuses that the permitted call can have. Those on a node with systemd differ from those without.
    answers: &'static [u16],
}

const fn read(operation_id: &'static str) -> Call {
    Call { operation_id, path: &[], body: None, answers: &[200] }
}

const fn by_service(operation_id: &'static str) -> Call {
    Call { operation_id, path: &[("name", "nodeaudit-test")], body: None, answers: &[404, 503] }
}

/// Refused in development mode, after it was recorded as permitted.
const fn change(operation_id: &'static str, body: Option<&'static str>) -> Call {
    Call { operation_id, path: &[], body, answers: &[503] }
}

const CALLS: [Call; 31] = [
    read("GetNodeHostname"),
    change("PutNodeHostname", Some(r#"{"hostname": "node-7"}"#)),
    read("GetNodeStatus"),
    read("GetNodeOs"),
    read("GetNodeUptime"),
    read("GetNodeLoad"),
    read("GetNodeMemory"),
    read("GetNodeDisk"),
    read("GetNodeNetworkInterfaces"),
    Call { path: &[("name", "lo")], ..read("GetNodeNetworkInterface") },
    read("GetNodeNetworkDns"),
    read("GetNodeTime"),
    read("GetNodeTimezone"),
    change("PutNodeTimezone", Some(r#"{"timezone": "Europe/Berlin"}"#)),
    change("PostNodePowerReboot", None),
    change("PostNodePowerShutdown", None),
    Call { answers: &[200, 503], ..read("GetNodeServices") },
    by_service("GetNodeService"),
    by_service("PostNodeServiceStart"),
    by_service("PostNodeServiceStop"),
    by_service("PostNodeServiceRestart"),
    Call { answers: &[200, 503], ..read("GetNodeLog") },
    read("GetAuditLogs"),
    read("GetAuditExport"),
    read("GetAuditStatus"),
    Call { path: &[("id", "018f0000-0000-7000-8000-000000000000")], answers: &[404], ..read("GetAuditLogByID") },
    read("GetHealth"),
    read("GetHealthReady"),
    read("GetMetrics"),
    read("GetVersion"),
    read("GetOpenapi"),
];

#[test]
fn every_operation_leaves_exactly_one_entry_whoever_calls() {
    call_everything("");
}

#[test]
fn every_operation_leaves_exactly_one_entry_below_a_base_path() {
    call_everything("/api/v1");
}

fn call_everything(base_path: &str) {
    // In development mode anyone may read the API description; here nobody without a token may do anything.
    let agent = Node::new(&format!(
        "auth.anonymous_permissions = []\nserver.base_path = \"{base_path}\"\naudit.max_bytes = 4194304\n"
    ))
    .start();
    let described = described_operations(&agent);
    let operations: BTreeMap<&str, Operation> =
        api::endpoints().iter().map(|endpoint| (endpoint.operation.id, endpoint.operation)).collect();
    assert!(described.iter().map(String::as_str).eq(operations.keys().copied()), "{described:?}");
    let calls: BTreeMap<&str, &Call> = CALLS.iter().map(|call| (call.operation_id, call)).collect();
    let stale: Vec<_> = calls.keys().filter(|id| !operations.contains_key(*id)).collect();
    assert!(stale.is_empty(), "remove from tests/integration/coverage.rs: {stale:?}");

    let mut ledger = Ledger::open(&agent);
    for (id, operation) in operations {
        let call = calls
            .get(id)
            .unwrap_or_else(|| panic!("{id} has no row in tests/integration/coverage.rs: add how to call it"));
        let request = call.request(operation, base_path);
        let path = call.path(operation, base_path);
        let is_public = operation.permission == Permission::Public;
        let permitted_class = if operation.method.is_safe() { "read" } else { "change" };

        let mut check = |who: &str, response: &Response, user: &str, permitted: bool, answers: &[u16]| {
            let case = format!("{id}, {who}");
            assert!(answers.contains(&response.status), "{case}: {} {}", response.status, response.text());
            let entry = ledger.only();
            assert_eq!(entry["id"], response.audit_id(), "{case}");
            assert_eq!(entry, agent.entry_of(response), "{case}: the same by its ID");
            ledger.news();
            assert_eq!(entry["operation_id"], id, "{case}");
            let class = if permitted && !user.is_empty() { permitted_class } else { "denied" };
            assert_eq!(entry["class"], class, "{case}");
            assert_eq!(entry["outcome"], "completed", "{case}");
            assert_eq!(entry["response_code"], response.status, "{case}");
            assert_eq!(entry["user"], user, "{case}");
            assert_eq!(entry["permission"], operation.permission.as_str(), "{case}");
            assert_eq!(entry["method"], operation.method.as_str(), "{case}");
            assert_eq!(entry["path"], path.as_str(), "{case}");
        };

        let refused = |status| if is_public { call.answers.to_vec() } else { vec![status] };
        let response = agent.call(&request);
        check("nobody", &response, "", is_public, &refused(401));
        let response = agent.call(&request.clone().bearer(&agent.token_for(&[])));
        check("someone who may not", &response, "tester@example.com", is_public, &refused(403));
        let permission: Vec<_> = Some(operation.permission).filter(|_| !is_public).into_iter().collect();
        let response = agent.call(&request.bearer(&agent.token_for(&permission)));
        check("someone who may", &response, "tester@example.com", true, call.answers);
    }
}

/// The operation IDs of the document that the agent serves.
fn described_operations(agent: &Agent) -> BTreeSet<String> {
    let document = agent.read("/openapi.json");
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.values().flat_map(|methods| methods.as_object().unwrap().values());
    operations.map(|operation: &Value| operation["operationId"].as_str().unwrap().to_owned()).collect()
}

impl Call {
    fn path(&self, operation: Operation, base_path: &str) -> String {
        let path = format!("{base_path}{}", operation.path);
        let path = self.path.iter().fold(path, |path, (name, value)| path.replace(&format!("{{{name}}}"), value));
        assert!(!path.contains('{'), "tests/integration/coverage.rs has no value for a parameter of {path}");
        path
    }

    fn request(&self, operation: Operation, base_path: &str) -> Request {
        let request = Request::new(operation.method.as_str(), &self.path(operation, base_path));
        match self.body {
            Some(body) => request.json(body),
            None => request,
        }
    }
}
