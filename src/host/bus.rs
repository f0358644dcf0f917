//! The system bus: typed calls to systemd's services, through `busctl(1)`.
//!
//! A D-Bus crate would take about a fifth of the binary's 4.5 MB for a dozen calls a day; every image with systemd has
//! busctl, it speaks JSON, and a hung bus then hangs a child with a deadline instead of the agent.
//! The services decide with polkit what this agent may do; a refusal comes back as [`HostError::Unavailable`].

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::command::{Commands, Ended, Limits, Output};
use super::{Host, HostError};

/// For the service to answer, its start included, and a little more for busctl itself.
const TIMEOUT_ARGUMENT: &str = "--timeout=10";
const LIMITS: Limits = Limits { deadline: Duration::from_secs(12), output_bytes: 4 << 20 };

/// Longest part of a service's refusal that is passed on.
const REASON_CHARS: usize = 300;

/// An interface of an object on the bus.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interface<'a> {
    /// The service as errors name it, such as `systemd-hostnamed`.
    pub(super) what: &'static str,
    /// The name it owns on the bus.
    pub(super) service: &'static str,
    /// The object's path.
    pub(super) object: &'a str,
    /// The interface.
    pub(super) name: &'static str,
}

/// The system bus of a node that runs systemd.
#[derive(Debug)]
pub(super) struct Bus<'a> {
    commands: &'a Commands,
}

/// What `busctl --json=short` writes for an answer, and for each property.
#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

impl Host {
    /// The system bus, none where systemd does not run this node, the image has no busctl, or the tree is another's.
    pub(super) fn bus(&self) -> Option<Bus<'_>> {
        // sd_booted(3)
        let booted = self.paths.is_own() && self.paths.run("systemd/system").is_dir();
        (booted && Commands::has("busctl")).then_some(Bus { commands: &self.commands })
    }
}

impl Bus<'_> {
    /// Calls a method and gives its results as a tuple. `arguments` are a signature and its values, as busctl reads them.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        interface: Interface<'_>,
        method: &str,
        arguments: &[&str],
    ) -> Result<T, HostError> {
        let output = self.busctl("call", interface, method, arguments).await?;
        parse(interface.what, &output.stdout)
    }

    /// Calls a method that has no result.
    pub(super) async fn invoke(
        &self,
        interface: Interface<'_>,
        method: &str,
        arguments: &[&str],
    ) -> Result<(), HostError> {
        self.busctl("call", interface, method, arguments).await.map(drop)
    }

    /// One property.
    pub(super) async fn property<T: DeserializeOwned>(
        &self,
        interface: Interface<'_>,
        name: &str,
    ) -> Result<T, HostError> {
        let output = self.busctl("get-property", interface, name, &[]).await?;
        parse(interface.what, &output.stdout)
    }

    /// Every property of the interface, from one call; `T` picks those it wants.
    pub(super) async fn properties<T: DeserializeOwned>(&self, interface: Interface<'_>) -> Result<T, HostError> {
        let properties = Interface { name: "org.freedesktop.DBus.Properties", ..interface };
        let (all,) = self.call(properties, "GetAll", &["s", interface.name]).await?;
        Ok(all)
    }

    async fn busctl(
        &self,
        verb: &str,
        interface: Interface<'_>,
        member: &str,
        arguments: &[&str],
    ) -> Result<Output, HostError> {
        let mut line = vec!["--system", "--json=short", TIMEOUT_ARGUMENT, "--", verb];
        line.extend([interface.service, interface.object, interface.name, member]);
        line.extend(arguments);
        let output = self.commands.run("busctl", &line, LIMITS).await?;
        match output.ended {
            Ended::Exited(status) if status.success() => Ok(output),
            Ended::Exited(_) => Err(HostError::unavailable(interface.what, reason(&output.stderr))),
            Ended::DeadlinePassed => Err(HostError::unavailable(interface.what, "it did not answer in time")),
            Ended::OutputFull => Err(HostError::unavailable(interface.what, "its answer is too long")),
        }
    }
}

/// A property inside `a{sv}`, where busctl keeps the type beside the value.
#[derive(Debug, Deserialize)]
pub(super) struct Variant<T> {
    /// The value.
    pub(super) data: T,
}

fn parse<T: DeserializeOwned>(what: &'static str, json: &[u8]) -> Result<T, HostError> {
    serde_json::from_slice::<Answer<T>>(json)
        .map(|answer| answer.data)
        .map_err(|error| HostError::unavailable(what, format!("its answer is not understood: {error}")))
}

/// What a service says when it refuses, from busctl's diagnostics.
fn reason(stderr: &str) -> String {
    let last = stderr.lines().rfind(|line| !line.trim().is_empty());
    let said = last.map_or("it gives no reason", |line| line.trim().trim_start_matches("Call failed: "));
    let said: String = said.chars().take(REASON_CHARS).collect();
    // org.freedesktop.DBus.Error.AccessDenied and InteractiveAuthorizationRequired, in the services' words.
    match said.trim_end_matches('.') {
        "Access denied" | "Interactive authentication required" => {
            format!("polkit does not let the agent do it: {said}")
        }
        _ => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fixture::Tree;

    #[test]
    fn results_of_a_call_become_a_tuple() {
        let json = br#"{"type":"o","data":["/org/freedesktop/systemd1/job/1234"]}"#;
        let (job,): (String,) = parse("systemd", json).unwrap();
        assert_eq!(job, "/org/freedesktop/systemd1/job/1234");
    }

    #[test]
    fn properties_are_picked_by_name_and_others_ignored() {
        #[derive(Deserialize)]
        struct Unit {
            #[serde(rename = "LoadState")]
            load: Variant<String>,
        }
        let json = br#"{"type":"a{sv}","data":[{"Id":{"type":"s","data":"x.service"},"LoadState":{"type":"s","data":"loaded"}}]}"#;
        let (unit,): (Unit,) = parse("systemd", json).unwrap();
        assert_eq!(unit.load.data, "loaded");
    }

    #[test]
    fn an_answer_of_another_shape_is_unavailable_and_says_why() {
        let refused = parse::<(String,)>("systemd", b"").unwrap_err();
        assert!(refused.to_string().starts_with("systemd is not available: its answer"));
    }

    #[test]
    fn a_refusal_is_passed_on_without_what_busctl_adds() {
        assert_eq!(reason("Call failed: Unit x.service is masked.\n"), "Unit x.service is masked.");
        assert_eq!(reason("Call failed: Access denied\n"), "polkit does not let the agent do it: Access denied");
        assert_eq!(reason(""), "it gives no reason");
        assert_eq!(reason(&"x".repeat(1000)).len(), REASON_CHARS);
    }

    #[test]
    fn another_tree_has_no_bus() {
        let tree = Tree::new().with("run/systemd/system/.keep", "");
        assert!(tree.host().bus().is_none());
    }
}
