//! Least authority: what each operation answers to each role, generated from the endpoints, is what the roles hold.

use std::collections::BTreeMap;

use nodeaudit::api;
use nodeaudit::auth::{Permission, PermissionSet, Roles};
use serde_json::json;

use crate::support::{Node, Request, assert_is_error, now_s};

const CONFIG: &str = r#"
[auth]
anonymous_permissions = []
[auth.roles]
operator = ["node:read", "service:write"]
"#;

/// Someone who calls: a name for messages, a token, and what it should allow.
struct Caller {
    name: String,
    token: Option<String>,
    held: PermissionSet,
}

#[test]
fn every_operation_answers_every_role_as_the_roles_say() {
    let agent = Node::new(CONFIG).start();
    let own = BTreeMap::from([("operator".to_owned(), vec![Permission::NodeRead, Permission::ServiceWrite])]);
    let roles = Roles::new(&own);
    let names = Roles::BUILT_IN.into_iter().chain(["operator", "no-such-role"]);
    let by_role =
        names.map(|role| Caller { name: role.to_owned(), token: Some(agent.token(&[role])), held: roles.expand(role) });
    // Each replaces what the role admin stands for.
    let by_claim = Permission::ALL.map(|held| Caller {
        name: format!("claim {}", held.as_str()),
        token: Some(agent.token_for(&[held])),
        held: PermissionSet::of(&[held]),
    });
    let foreign = json!({"sub": "a", "exp": now_s() + 60, "roles": ["admin"], "permissions": ["node:*", "*", "x:y"]});
    let others = [
        Caller { name: "nobody".to_owned(), token: None, held: PermissionSet::EMPTY },
        Caller { name: "foreign claim".to_owned(), token: Some(agent.sign(&foreign)), held: PermissionSet::EMPTY },
    ];
    let callers: Vec<Caller> = by_role.chain(by_claim).chain(others).collect();

    for operation in api::endpoints().iter().map(|endpoint| endpoint.operation) {
        for Caller { name, token, held } in &callers {
            let request = Request::new(operation.method.as_str(), &operation.path.replace(['{', '}'], ""));
            let response = agent.call(&token.iter().fold(request, |request, token| request.bearer(token)));
            let case = format!("{} by {name}", operation.id);
            if held.allows(operation.permission) {
                assert!(![401, 403].contains(&response.status), "{case}: {}", response.text());
            } else if token.is_none() {
                let details = assert_is_error(&response, 401);
                assert_eq!(details, "A bearer token is required.", "{case}");
            } else {
                let details = assert_is_error(&response, 403);
                let permission = operation.permission.as_str();
                assert_eq!(details, format!("The permission {permission} is required."), "{case}");
            }
        }
    }
}

#[test]
fn only_admin_and_auditor_read_the_ring() {
    let agent = Node::new("").start();
    for path in ["/audit", "/audit/export", "/audit/status", "/audit/018f0000-0000-7000-8000-000000000000"] {
        for role in ["write", "read"] {
            let response = agent.call(&Request::get(path).bearer(&agent.token(&[role])));
            assert_eq!(response.status, 403, "{path} by {role}");
        }
        for role in ["admin", "auditor"] {
            let response = agent.call(&Request::get(path).bearer(&agent.token(&[role])));
            assert!([200, 404].contains(&response.status), "{path} by {role}");
        }
    }
    for path in ["/node/hostname", "/node/log", "/version"] {
        let response = agent.call(&Request::get(path).bearer(&agent.token(&["auditor"])));
        assert_eq!(response.status, 403, "{path} by auditor");
    }
}
