//! The OpenAPI 3.1 document, made from the endpoints.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use super::endpoint::{Endpoint, PathParameter, schema_of};
use super::error::{self, ErrorBody};
use crate::auth::{Permission, PermissionSet};

const SCHEMAS: &str = "/components/schemas";

/// The document, its keys in the order of the alphabet.
#[derive(Serialize)]
struct Document<'a> {
    components: Components,
    info: Value,
    openapi: &'static str,
    paths: BTreeMap<&'a str, BTreeMap<String, Box<RawValue>>>,
    servers: [Server<'a>; 1],
}

#[derive(Serialize)]
struct Components {
    schemas: Map<String, Value>,
    #[serde(rename = "securitySchemes")]
    security_schemes: Value,
}

#[derive(Serialize)]
struct Server<'a> {
    url: &'a str,
}

/// Describes `endpoints`, served below `base_path` to callers who hold `anonymous` without a token: a JSON text.
///
/// Each operation becomes text before the next one is described. All of them as values would take 3 MB, which the process would keep.
pub fn document(endpoints: &[Endpoint], base_path: &str, anonymous: PermissionSet) -> String {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = SCHEMAS.into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths: BTreeMap<&str, BTreeMap<String, Box<RawValue>>> = BTreeMap::new();
    for endpoint in endpoints {
        let method = endpoint.operation.method.as_str().to_lowercase();
        let described = to_raw_value(&operation(endpoint, anonymous, &mut generator)).expect("a value is JSON");
        paths.entry(endpoint.operation.path).or_default().insert(method, described);
    }
    let document = Document {
        components: Components {
            schemas: generator.take_definitions(true),
            security_schemes: json!({ "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" } }),
        },
        info: json!({
            "title": "nodeaudit",
            "description": "The management API of one node. Every call leaves an entry in its audit ring; the header Audit-Id names it.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        }),
        openapi: "3.1.0",
        paths,
        servers: [Server { url: if base_path.is_empty() { "/" } else { base_path } }],
    };
    serde_json::to_string(&document).expect("all its keys are texts")
}

fn operation(endpoint: &Endpoint, anonymous: PermissionSet, generator: &mut SchemaGenerator) -> Value {
    let operation = endpoint.operation;
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": parameters(endpoint, generator),
        "responses": responses(endpoint, generator),
    });
    if operation.permission != Permission::Public {
        let optional = anonymous.allows(operation.permission);
        described["security"] = if optional { json!([{ "bearer": [] }, {}]) } else { json!([{ "bearer": [] }]) };
        described["description"] = json!(format!("Needs the permission `{}`.", operation.permission.as_str()));
    }
    if let Some(body) = endpoint.input.body {
        described["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": body(generator) } } });
    }
    described
}

fn parameters(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Vec<Value> {
    let mut parameters: Vec<Value> =
        endpoint.input.path_parameters.iter().map(|parameter| path_parameter(parameter, generator)).collect();
    let Some(query) = endpoint.input.query.map(|schema| resolve(schema(generator), generator)) else {
        return parameters;
    };
    let required = query.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let properties = query.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    parameters.extend(properties.into_iter().map(|(name, mut schema)| {
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        json!({
            "name": name,
            "in": "query",
            "description": description,
            "required": required.contains(&Value::from(name.as_str())),
            "schema": never_null(schema),
        })
    }));
    parameters
}

/// A parameter that may be left out is left out; it can't be null.
fn never_null(mut schema: Value) -> Value {
    let null = json!("null");
    if let Some([kind, other]) = schema["type"].as_array().map(Vec::as_slice)
        && *other == null
    {
        schema["type"] = kind.clone();
    }
    if let Some(kinds) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        kinds.retain(|kind| !kind.is_null());
    }
    match schema["anyOf"].as_array().map(Vec::as_slice) {
        Some([kind, other]) if other["type"] == null => kind.clone(),
        _ => schema,
    }
}

fn path_parameter(parameter: &PathParameter, generator: &mut SchemaGenerator) -> Value {
    json!({
        "name": parameter.name,
        "in": "path",
        "description": parameter.description,
        "required": true,
        "schema": (parameter.schema)(generator),
    })
}

fn responses(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Value {
    let headers = json!({ "Audit-Id": {
        "description": "ID of this call's audit entry.",
        "schema": { "type": "string", "format": "uuid" },
    } });
    let success = &endpoint.success;
    let content: Map<String, Value> = success
        .content
        .iter()
        .map(|(media_type, schema)| ((*media_type).to_owned(), json!({ "schema": schema(generator) })))
        .collect();
    let mut responses = Map::new();
    responses.insert(
        success.status.to_string(),
        json!({ "description": success.description, "headers": headers, "content": content }),
    );
    let refusals: &[u16] = if endpoint.operation.permission == Permission::Public { &[] } else { &[401, 403] };
    for status in [400, 429, 500, 503].iter().chain(refusals).chain(endpoint.errors) {
        let mut described = json!({ "description": error::describe(*status), "headers": headers });
        if *status >= 400 {
            let schema = schema_of::<ErrorBody>(generator);
            described["content"] = json!({ "application/json": { "schema": schema } });
        }
        responses.insert(status.to_string(), described);
    }
    Value::Object(responses)
}

/// The schema that a reference points to, taken out of the components: a query is described by its parameters alone.
fn resolve(schema: Schema, generator: &mut SchemaGenerator) -> Value {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next()).map(str::to_owned);
    name.and_then(|name| generator.definitions_mut().remove(&name)).unwrap_or_else(|| schema.into())
}
