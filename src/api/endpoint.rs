//! The one definition of an endpoint: operation, shapes and handler.
//!
//! From an [`Endpoint`] come the route, the permission check, the entry's `operation_id` and the OpenAPI entry. Nothing
//! about an endpoint is written anywhere else.

use actix_web::Route;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::operation::Operation;

/// Registers a type's JSON Schema and gives a reference to it.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The schema of `T`, to stand in an [`Endpoint`].
pub fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// A `{name}` in an operation's path.
#[derive(Clone, Copy)]
pub struct PathParameter {
    /// The name between the braces.
    pub name: &'static str,
    /// One line for `/openapi.json`.
    pub description: &'static str,
    /// The shape of a well-formed value; one that names nothing is answered with 404.
    pub schema: SchemaOf,
}

/// What a successful call answers with.
#[derive(Clone, Copy)]
pub struct Success {
    /// The HTTP status.
    pub status: u16,
    /// One line for `/openapi.json`.
    pub description: &'static str,
    /// Media types and the schema of each.
    pub content: &'static [(&'static str, SchemaOf)],
}

impl Success {
    /// 200 with a JSON body of the shape that `schema` gives.
    pub const fn json(description: &'static str, content: &'static [(&'static str, SchemaOf); 1]) -> Self {
        Self { status: 200, description, content }
    }

    /// 202, for what goes on after the answer, with a JSON body of the shape that `schema` gives.
    pub const fn accepted(description: &'static str, content: &'static [(&'static str, SchemaOf); 1]) -> Self {
        Self { status: 202, description, content }
    }
}

/// What a call brings beside method and path.
#[derive(Clone, Copy)]
pub struct Input {
    /// One for each `{name}` in the path.
    pub path_parameters: &'static [PathParameter],
    /// The shape of the query; its properties are the parameters. None: any query is refused.
    pub query: Option<SchemaOf>,
    /// The shape of the JSON body; none where there is no body.
    pub body: Option<SchemaOf>,
}

impl Input {
    /// Nothing.
    pub const NONE: Self = Self { path_parameters: &[], query: None, body: None };
}

/// An operation with its shapes and its handler.
#[derive(Clone, Copy)]
pub struct Endpoint {
    /// Method, path, ID and permission.
    pub operation: Operation,
    /// What a call brings beside method and path.
    pub input: Input,
    /// The answer where nothing went wrong.
    pub success: Success,
    /// Error statuses of its own, beside those that every operation can answer (400, 401, 403, 500, 503).
    pub errors: &'static [u16],
    /// Makes the actix route; called once a worker.
    pub handler: fn() -> Route,
}
