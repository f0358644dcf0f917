//! One operation of the API: a method and a path with its ID and its permission.
//!
//! Plain data below everything that handles a request: `audit` names an entry's operation by it, `auth` decides by it,
//! `api` builds routes and the OpenAPI document from it. It knows none of them, and no HTTP library.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use crate::auth::Permission;

/// The methods that operations use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// Reads; safe (RFC 9110, section 9.2.1).
    Get,
    /// Starts an action; not safe.
    Post,
    /// Replaces a setting; not safe.
    Put,
}

impl Method {
    /// The method as it stands in a request line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }

    /// Whether a call with this method asks for no change (RFC 9110, section 9.2.1).
    pub const fn is_safe(self) -> bool {
        matches!(self, Self::Get)
    }
}

/// What can be called, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// OpenAPI operation ID, such as `GetNodeHostname`; unique.
    pub id: &'static str,
    /// The one method of this operation.
    pub method: Method,
    /// Path below the base path, with `{name}` for a path parameter.
    pub path: &'static str,
    /// What a caller must hold. A required field: an operation without a permission does not compile.
    ///
    /// ```compile_fail,E0063
    /// use nodeaudit::operation::{Method, Operation};
    /// let operation = Operation { id: "GetX", method: Method::Get, path: "/x", summary: "Anyone's?" };
    /// ```
    ///
    /// With one it does:
    ///
    /// ```
    /// use nodeaudit::auth::Permission;
    /// use nodeaudit::operation::{Method, Operation};
    /// let permission = Permission::NodeRead;
    /// let operation = Operation { id: "GetX", method: Method::Get, path: "/x", summary: "Some.", permission };
    /// ```
    pub permission: Permission,
    /// One line for `/openapi.json`.
    pub summary: &'static str,
}

/// All operations, to be found by what a request names.
#[derive(Clone, Debug, Default)]
pub struct Operations(HashMap<Arc<str>, Vec<Operation>, BuildHasherDefault<PathHasher>>);

/// FNV-1a: nobody can put paths of his own among these few, so it need not withstand anyone.
#[derive(Clone, Copy, Debug)]
struct PathHasher(u64);

impl Operations {
    /// These operations, served below `base_path`.
    pub fn new(base_path: &str, operations: impl IntoIterator<Item = Operation>) -> Self {
        let mut by_path = HashMap::<Arc<str>, Vec<Operation>, _>::default();
        for operation in operations {
            by_path.entry(format!("{base_path}{}", operation.path).into()).or_default().push(operation);
        }
        Self(by_path)
    }

    /// What is at that path, its parameters in braces.
    pub fn at(&self, path: &str) -> Option<OperationsAt<'_>> {
        self.0.get_key_value(path).map(|(path, operations)| OperationsAt { path, operations })
    }
}

impl Default for PathHasher {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for PathHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The operations at one path.
#[derive(Clone, Copy, Debug)]
pub struct OperationsAt<'a> {
    path: &'a Arc<str>,
    operations: &'a [Operation],
}

impl<'a> OperationsAt<'a> {
    /// The path.
    pub const fn path(self) -> &'a Arc<str> {
        self.path
    }

    /// The one with that method.
    pub fn with(self, method: &str) -> Option<Operation> {
        self.operations.iter().find(|operation| operation.method.as_str() == method).copied()
    }
}
