//! Least authority: what each operation answers to each role, generated from the endpoints, is what the roles hold.

use std::collections::{BTreeMap, BTreeSet};

use nodeaudit::api;
use nodeaudit::auth::{Permission, PermissionSet, Roles};
use nodeaudit::operation::Operation;
use serde_json::json;

use crate::support::{Agent, Node, Request, assert_is_error, now_s};

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
    // None of these is a permission, and none makes one of its role's.
    let foreign_claims = [json!([]), json!(["NODE:READ"]), json!(["node:read "]), json!(["public"]), json!(["admin"])];
    let by_foreign_claim = foreign_claims.map(|permissions| Caller {
        name: format!("claim {permissions}"),
        token: Some(
            agent.sign(&json!({"sub": "a", "exp": now_s() + 60, "roles": ["admin"], "permissions": permissions})),
        ),
        held: PermissionSet::EMPTY,
    });
    let others = [
        Caller { name: "nobody".to_owned(), token: None, held: PermissionSet::EMPTY },
        Caller { name: "foreign claim".to_owned(), token: Some(agent.sign(&foreign)), held: PermissionSet::EMPTY },
    ];
    let callers: Vec<Caller> = by_role.chain(by_claim).chain(by_foreign_claim).chain(others).collect();

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

#[test]
fn nothing_in_the_api_changes_or_deletes_an_entry() {
    let agent = Agent::start();
    let admin = agent.token(&["admin"]);
    for path in ["/node/hostname", "/health", "/version"] {
        agent.call(&Request::get(path).bearer(&admin));
    }
    let export = |agent: &Agent| {
        let exported = agent.call(&Request::get("/audit/export?format=ndjson").bearer(&admin)).body;
        String::from_utf8(exported).unwrap()
    };
    let before = export(&agent);
    let id = agent.read("/audit?limit=1")["items"][0]["id"].as_str().unwrap().to_owned();

    // What is defined on the ring only reads it.
    let operations: Vec<_> = api::endpoints().iter().map(|endpoint| endpoint.operation).collect();
    let (of_ring, others): (Vec<_>, Vec<_>) =
        operations.iter().partition(|operation| operation.permission == Permission::AuditRead);
    assert!(
        of_ring.len() >= 4 && of_ring.iter().all(|operation: &&Operation| operation.method.is_safe()),
        "{of_ring:?}"
    );
    assert!(others.iter().all(|operation| !operation.path.starts_with("/audit")), "{others:?}");

    // What is not defined is refused to the most powerful caller, whatever the path and the method.
    let paths: BTreeSet<_> = operations.iter().map(|operation| operation.path).collect();
    for path in paths {
        let defined = |method: &str| operations.iter().any(|one| one.path == path && one.method.as_str() == method);
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE", "MOVE", "LOCK"] {
            if !defined(method) {
                let target = path.replace("{id}", &id).replace(['{', '}'], "");
                let response = agent.call(&Request::new(method, &target).bearer(&admin));
                assert_eq!(response.status, 405, "{method} {target}");
            }
        }
    }
    let after = export(&agent);
    assert!(after.starts_with(&before) && after.len() > before.len(), "an entry changed or went:\n{before}\n{after}");
}
