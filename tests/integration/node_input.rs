//! What a caller can name wrongly: told apart as malformed, unknown, and not possible on this node.

use nodeaudit::api;
use nodeaudit::operation::Method;

use crate::support::{Agent, Request, assert_is_error};

#[test]
fn interfaces_that_are_not_there_are_unknown_and_impossible_names_are_refused() {
    let agent = Agent::start();
    let token = agent.token(&["read"]);
    let get = |name: &str| agent.call(&Request::get(&format!("/node/network/interface/{name}")).bearer(&token));
    assert_eq!(get("lo").json()["name"], "lo");
    for unknown in ["nodeaudit0", ".", "..", "%2e%2e", "bonding_masters"] {
        assert_is_error(&get(unknown), 404);
    }
    for malformed in ["a-name-of-16-len", "a%20b", "a:b", "..%2flo", "%2fetc", "%00", "l%c3%b6", "lo%0a"] {
        assert_is_error(&get(malformed), 400);
    }
}

#[test]
fn zones_that_are_not_there_are_unknown_and_impossible_names_are_refused() {
    let agent = Agent::start();
    let token = agent.token(&["admin"]);
    let put = |zone: &str| {
        let body = serde_json::json!({ "timezone": zone }).to_string();
        agent.call(&Request::new("PUT", "/node/timezone").json(&body).bearer(&token))
    };
    for unknown in ["Mars/Olympus_Mons", "Europe", "zone.tab", "tzdata", "localtime"] {
        let response = put(unknown);
        assert!([400, 404].contains(&response.status), "{unknown}: {}", response.text());
        assert_is_error(&response, response.status);
    }
    assert_is_error(&put("Mars/Olympus_Mons"), 404);
    for malformed in
        ["", "/etc/passwd", "../../etc/passwd", "Europe/../Berlin", "Europe//Berlin", "a b", "Europe/Berlin\n"]
    {
        assert_is_error(&put(malformed), 400);
    }
    assert_is_error(&put("Europe/Berlin"), 503);
}

#[test]
fn impossible_host_names_are_refused() {
    let agent = Agent::start();
    let token = agent.token(&["admin"]);
    let put = |name: &str| {
        let body = serde_json::json!({ "hostname": name }).to_string();
        agent.call(&Request::new("PUT", "/node/hostname").json(&body).bearer(&token))
    };
    let (long_label, long_name) = ("a".repeat(64), format!("{}.bc", "a".repeat(62)));
    for bad in
        ["", "-a", "a-", "a..b", "a.", ".a", "a_b", "a b", "a\n", "a/b", "nöde", "a\u{0}", &long_label, &long_name]
    {
        assert_is_error(&put(bad), 400);
    }
    for good in ["a", "node-7", "Node7.plant-2.example", &"a".repeat(63)] {
        assert_is_error(&put(good), 503);
    }
}

#[test]
fn the_log_takes_1_to_1000_lines_and_a_well_formed_unit() {
    let agent = Agent::start();
    let token = agent.token_for(&[nodeaudit::auth::Permission::LogRead]);
    let get = |query: &str| agent.call(&Request::get(&format!("/node/log{query}")).bearer(&token));
    for bad in ["0", "1001", "-1", "%2B5", "+5", "abc", "", "5.0", "18446744073709551616"] {
        assert_is_error(&get(&format!("?lines={bad}")), 400);
    }
    for bad in
        ["unit=", "unit=a%20b", "unit=*", "unit=..%2Fx", "unit=-a%00", "lines=5&lines=6", "since=1", "follow=true"]
    {
        assert_is_error(&get(&format!("?{bad}")), 400);
    }
    for good in ["", "?lines=1", "?lines=1000", "?unit=ssh", "?lines=7&unit=ssh.service"] {
        let status = get(good).status;
        assert!([200, 503].contains(&status), "{good}: {status}, and 503 only without systemd");
    }
}

#[test]
fn services_that_are_not_there_and_impossible_names_are_refused() {
    let agent = Agent::start();
    let token = agent.token(&["admin"]);
    let calls = [("GET", ""), ("POST", "/start"), ("POST", "/stop"), ("POST", "/restart")];
    for (method, action) in calls {
        let call =
            |name: &str| agent.call(&Request::new(method, &format!("/node/service/{name}{action}")).bearer(&token));
        for malformed in ["a%20b", "*", "@x", "%2e%2e%2fx", "%00", "a%0a", "%c3%b6", &"a".repeat(300)] {
            assert_is_error(&call(malformed), 400);
        }
        let response = call("nodeaudit-no-such-service");
        assert!([404, 503].contains(&response.status), "503 only without systemd: {}", response.text());
        assert_is_error(&response, response.status);
    }
}

#[test]
fn an_operation_takes_no_query_but_the_one_it_describes() {
    let agent = Agent::start();
    let token = agent.token(&["admin"]);
    for operation in api::endpoints().iter().map(|endpoint| endpoint.operation) {
        let path = operation.path.replace("{name}", "lo").replace("{id}", "018f0000-0000-7000-8000-000000000000");
        let request = Request::new(operation.method.as_str(), &format!("{path}?no_such_parameter=1")).bearer(&token);
        let request = if operation.method == Method::Put { request.json("{}") } else { request };
        let response = agent.call(&request);
        assert_eq!(response.status, 400, "{}: {}", operation.id, response.text());
        assert_is_error(&response, 400);
    }
}
