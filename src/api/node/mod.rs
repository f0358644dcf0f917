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
pub(super) fn endpoints() -> Vec<Endpoint> {
    let families: &[&[Endpoint]] = &[
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

    use schemars::SchemaGenerator;
    use serde_json::Value;

    use super::*;

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
            let described: Vec<_> = endpoint.input.path_parameters.iter().map(|parameter| parameter.name).collect();
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
            for schema in answers.chain(endpoint.input.query).chain(endpoint.input.body) {
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
}
