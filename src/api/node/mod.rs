//! `/node/...`: the node's readings and settings, one file an endpoint family.

mod body;
mod disk;
mod hostname;
mod load;
mod log;
mod memory;
mod network;
mod os;
mod power;
mod service;
mod status;
mod time;
mod timezone;
mod uptime;

use super::endpoint::Endpoint;

/// Every endpoint of `/node`. A new family is one file and one line here.
pub fn endpoints() -> Vec<Endpoint> {
    let families: [&[Endpoint]; 13] = [
        &hostname::ENDPOINTS,
        &status::ENDPOINTS,
        &os::ENDPOINTS,
        &uptime::ENDPOINTS,
        &load::ENDPOINTS,
        &memory::ENDPOINTS,
        &disk::ENDPOINTS,
        &network::ENDPOINTS,
        &time::ENDPOINTS,
        &timezone::ENDPOINTS,
        &power::ENDPOINTS,
        &service::ENDPOINTS,
        &log::ENDPOINTS,
    ];
    families.concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use actix_web::http::StatusCode;
    use actix_web::test::{TestRequest, call_service, init_service, read_body};
    use actix_web::{App, Resource, web};
    use schemars::SchemaGenerator;
    use serde_json::Value;

    use super::*;
    use crate::api::AppState;
    use crate::host::fixture::Tree;

    /// Calls an endpoint of a node that has this tree and refuses changes.
    fn call(tree: &Tree, request: TestRequest) -> (StatusCode, Value) {
        let state = web::Data::new(AppState { host: tree.unchangeable_host() });
        actix_web::rt::System::new().block_on(async {
            let register = |config: &mut web::ServiceConfig| {
                let all = endpoints();
                let paths: BTreeSet<_> = all.iter().map(|endpoint| endpoint.operation.path).collect();
                for path in paths {
                    let of_path = all.iter().filter(|endpoint| endpoint.operation.path == path);
                    config.service(
                        of_path.fold(Resource::new(path), |resource, endpoint| resource.route((endpoint.handler)())),
                    );
                }
            };
            let app = init_service(App::new().app_data(state).configure(register)).await;
            let response = call_service(&app, request.to_request()).await;
            let status = response.status();
            let body = read_body(response).await;
            (status, serde_json::from_slice(&body).unwrap_or_default())
        })
    }

    fn get(path: &str) -> TestRequest {
        TestRequest::get().uri(path)
    }

    #[test]
    fn operation_ids_are_unique_and_begin_with_their_method() {
        let all = endpoints();
        let ids: BTreeSet<_> = all.iter().map(|endpoint| endpoint.operation.id).collect();
        assert_eq!(ids.len(), all.len());
        for operation in all.iter().map(|endpoint| endpoint.operation) {
            let id = operation.id.to_uppercase();
            assert!(id.starts_with(&format!("{}NODE", operation.method.as_str())), "{id}");
        }
    }

    #[test]
    fn every_parameter_of_a_path_is_described() {
        for endpoint in endpoints() {
            let path = endpoint.operation.path;
            let in_path: Vec<_> =
                path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
            let described: Vec<_> = endpoint.path_parameters.iter().map(|parameter| parameter.name).collect();
            assert_eq!(in_path, described, "{path}");
        }
    }

    #[test]
    fn only_reading_needs_no_more_than_reading() {
        use crate::auth::Permission::{LogRead, NodeRead};
        for operation in endpoints().iter().map(|endpoint| endpoint.operation) {
            let reads = matches!(operation.permission, NodeRead | LogRead);
            assert_eq!(reads, operation.method.is_safe(), "{}", operation.id);
        }
    }

    #[test]
    fn every_field_of_every_shape_is_described() {
        let mut generator = SchemaGenerator::default();
        for endpoint in endpoints() {
            let answers = endpoint.success.content.iter().map(|(_, schema)| *schema);
            for schema in answers.chain(endpoint.query).chain(endpoint.body) {
                schema(&mut generator);
            }
        }
        for (name, schema) in generator.definitions() {
            let properties = schema.get("properties").and_then(Value::as_object);
            for (field, shape) in properties.into_iter().flatten() {
                assert!(shape.get("description").is_some(), "{name}.{field}");
            }
        }
    }

    #[test]
    fn a_reading_is_answered_as_flat_json() {
        let tree = Tree::new().with("proc/sys/kernel/hostname", "node-7\n");
        let answer = call(&tree, get("/node/hostname"));
        assert_eq!(answer, (StatusCode::OK, serde_json::json!({ "hostname": "node-7" })));
    }

    #[test]
    fn an_unknown_interface_is_404_and_a_malformed_one_400() {
        let tree = Tree::new().with("sys/class/net/bonding_masters", "");
        assert_eq!(call(&tree, get("/node/network/interface/eth7")).0, StatusCode::NOT_FOUND);
        assert_eq!(call(&tree, get("/node/network/interface/a%20b")).0, StatusCode::BAD_REQUEST);
        assert_eq!(call(&tree, get("/node/network/interface/..%2F..%2Fx")).0, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn a_change_that_is_switched_off_is_503_and_a_bad_one_400() {
        let tree = Tree::new();
        let put =
            |name: &str| TestRequest::put().uri("/node/hostname").set_json(serde_json::json!({ "hostname": name }));
        assert_eq!(call(&tree, put("node-8")).0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(call(&tree, put("-")).0, StatusCode::BAD_REQUEST);
        let reboot = TestRequest::post().uri("/node/power/reboot");
        assert_eq!(call(&tree, reboot).0, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn the_logs_query_takes_what_its_schema_says() {
        let tree = Tree::new();
        for query in ["", "?lines=1000", "?unit=ssh.service&lines=1"] {
            let answer = call(&tree, get(&format!("/node/log{query}")));
            assert_eq!(answer.0, StatusCode::SERVICE_UNAVAILABLE, "{query:?}: {}", answer.1);
        }
        let bad =
            ["?lines=0", "?lines=1001", "?lines=%2B5", "?lines=", "?lines=1&lines=2", "?unit=", "?unit=a%20b", "?x=1"];
        for query in bad {
            let answer = call(&tree, get(&format!("/node/log{query}")));
            assert_eq!(answer.0, StatusCode::BAD_REQUEST, "{query:?}");
        }
    }
}
