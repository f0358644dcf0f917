//! Services: read and controlled through systemd (`org.freedesktop.systemd1(5)`).

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::bus::{Bus, Interface, Variant};
use super::{Host, HostError, clock};

const MANAGER: Interface<'static> = Interface {
    what: "systemd",
    service: "org.freedesktop.systemd1",
    object: "/org/freedesktop/systemd1",
    name: "org.freedesktop.systemd1.Manager",
};
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";

const SUFFIX: &str = ".service";

/// Longest name of a unit, its suffix included (`systemd.unit(5)`).
const NAME_MAX: usize = 255;

/// The services that systemd has loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Services {
    /// In the order of their names.
    pub services: Vec<ServiceSummary>,
}

/// A service in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ServiceSummary {
    /// Its unit, such as `ssh.service`.
    pub name: String,
    /// What it is, for people.
    pub description: String,
    /// Whether its unit file could be read: `loaded`, `not-found`, `masked`, ... (`systemctl(1)`).
    pub load_state: String,
    /// Whether it runs: `active`, `inactive`, `failed`, `activating`, ...
    pub active_state: String,
    /// The same in the words of services: `running`, `exited`, `dead`, ...
    pub sub_state: String,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Service {
    /// Its unit, such as `ssh.service`.
    pub name: String,
    /// What it is, for people.
    pub description: String,
    /// Whether its unit file could be read: `loaded`, `masked`, ... (`systemctl(1)`).
    pub load_state: String,
    /// Whether it runs: `active`, `inactive`, `failed`, `activating`, ...
    pub active_state: String,
    /// The same in the words of services: `running`, `exited`, `dead`, ...
    pub sub_state: String,
    /// Whether it starts at boot: `enabled`, `disabled`, `static`, ...; empty where it has no unit file.
    pub unit_file_state: String,
    /// When it last became active: RFC 3339, UTC; absent where it never did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_since: Option<String>,
    /// Its main process; absent where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub main_pid: Option<u32>,
    /// Memory of its processes; absent where it is not accounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// How often systemd restarted it by itself.
    pub restarts: u32,
    /// How it last ended: `success`, `exit-code`, `signal`, `oom-kill`, ...
    pub result: String,
}

/// What can be done to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServiceAction {
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Stop it where it runs, and start it.
    Restart,
}

/// systemd has taken the order; `GET /node/service/{name}` tells how it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ServiceAccepted {
    /// The unit, such as `ssh.service`.
    pub name: String,
    /// What is done to it.
    pub action: ServiceAction,
    /// Always `accepted`.
    pub status: &'static str,
}

/// A well-formed name of a service: what a node can be asked about, whether it has it or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName(String);

impl ServiceName {
    /// The unit of that name, `.service` added where it is missing, or why it is no name.
    pub fn parse(name: &str) -> Result<Self, HostError> {
        if !is_unit_name(name) {
            return Err(HostError::Invalid {
                what: "service name",
                reason: "it must be 1 to 255 letters, digits and :-_.\\@, and not begin with @ (systemd.unit(5))"
                    .to_owned(),
            });
        }
        let unit = name.strip_suffix(SUFFIX).unwrap_or(name);
        Ok(Self(format!("{unit}{SUFFIX}")))
    }

    /// Whether a unit can have this name: not beyond the limit with its suffix, not a template without an instance.
    fn can_exist(&self) -> bool {
        let prefix = self.0.strip_suffix(SUFFIX).unwrap_or_default();
        self.0.len() <= NAME_MAX && !prefix.is_empty() && !prefix.ends_with('@')
    }
}

impl JsonSchema for ServiceName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ServiceName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "Name of a service, such as ssh or ssh.service.",
            "minLength": 1,
            "maxLength": NAME_MAX,
            "pattern": UNIT_PATTERN,
        })
    }
}

/// What [`is_unit_name`] takes, for schemas.
pub(super) const UNIT_PATTERN: &str = r"^[A-Za-z0-9:_.\\-][A-Za-z0-9:_.\\@-]*$";

/// Whether systemd's units can be asked for by this name (`systemd.unit(5)`); globs can't.
pub(super) fn is_unit_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('@')
}

/// What systemd says of a unit (`org.freedesktop.systemd1(5)`).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UnitProperties {
    id: Variant<String>,
    description: Variant<String>,
    load_state: Variant<String>,
    active_state: Variant<String>,
    sub_state: Variant<String>,
    unit_file_state: Variant<String>,
    active_enter_timestamp: Variant<i64>,
}

/// What systemd says of a service.
#[derive(Deserialize)]
struct ServiceProperties {
    #[serde(rename = "MainPID")]
    main_pid: Variant<u32>,
    #[serde(rename = "MemoryCurrent")]
    memory_current: Variant<u64>,
    #[serde(rename = "NRestarts")]
    restarts: Variant<u32>,
    #[serde(rename = "Result")]
    result: Variant<String>,
}

/// A unit in `ListUnitsByPatterns`: name, description, three states, whom it follows, path, and its job.
type ListedUnit = (String, String, String, String, String, String, String, u32, String, String);

impl Host {
    /// The services that systemd has loaded.
    pub async fn services(&self) -> Result<Services, HostError> {
        let pattern = ["asas", "0", "1", "*.service"];
        let (units,): (Vec<ListedUnit>,) = self.systemd()?.call(MANAGER, "ListUnitsByPatterns", &pattern).await?;
        let mut services: Vec<_> = units.into_iter().map(summary).collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Services { services })
    }

    /// One service.
    pub async fn service(&self, name: &str) -> Result<Service, HostError> {
        let name = ServiceName::parse(name)?;
        let bus = self.systemd()?;
        let (path, unit) = load(&bus, &name).await?;
        let service: ServiceProperties = bus.properties(interface(&path, SERVICE)).await?;
        Ok(Service {
            name: unit.id.data,
            description: unit.description.data,
            load_state: unit.load_state.data,
            active_state: unit.active_state.data,
            sub_state: unit.sub_state.data,
            unit_file_state: unit.unit_file_state.data,
            active_since: since(unit.active_enter_timestamp.data),
            main_pid: Some(service.main_pid.data).filter(|&pid| pid != 0),
            memory_bytes: Some(service.memory_current.data).filter(|&bytes| bytes != u64::MAX),
            restarts: service.restarts.data,
            result: service.result.data,
        })
    }

    /// Orders systemd to start, stop or restart a service. Returns when the order is taken, not when it is carried out.
    pub async fn control_service(&self, name: &str, action: ServiceAction) -> Result<ServiceAccepted, HostError> {
        let name = ServiceName::parse(name)?;
        let bus = match self.systemd() {
            Ok(bus) => bus,
            Err(missing) => return Err(self.permit_change().err().unwrap_or(missing)),
        };
        let (_, unit) = load(&bus, &name).await?;
        self.permit_change()?;
        bus.invoke(MANAGER, action.method(), &["ss", &unit.id.data, "replace"]).await?;
        Ok(ServiceAccepted { name: unit.id.data, action, status: "accepted" })
    }

    fn systemd(&self) -> Result<Bus<'_>, HostError> {
        self.bus().ok_or_else(|| {
            HostError::unavailable("systemd", "it does not run this node, or the image has no busctl to ask it with")
        })
    }
}

impl ServiceAction {
    const fn method(self) -> &'static str {
        match self {
            Self::Start => "StartUnit",
            Self::Stop => "StopUnit",
            Self::Restart => "RestartUnit",
        }
    }
}

/// The unit's path on the bus and what systemd says of it; unknown where it has neither unit file nor process.
async fn load(bus: &Bus<'_>, ServiceName(name): &ServiceName) -> Result<(String, UnitProperties), HostError> {
    let unknown = || HostError::Unknown { what: "service", name: name.clone() };
    if !ServiceName(name.clone()).can_exist() {
        return Err(unknown());
    }
    let (path,): (String,) = bus.call(MANAGER, "LoadUnit", &["s", name]).await?;
    let unit: UnitProperties = bus.properties(interface(&path, UNIT)).await?;
    if unit.load_state.data == "not-found" && unit.active_state.data == "inactive" {
        return Err(unknown());
    }
    Ok((path, unit))
}

fn interface<'a>(path: &'a str, name: &'static str) -> Interface<'a> {
    Interface { object: path, name, ..MANAGER }
}

fn summary((name, description, load_state, active_state, sub_state, ..): ListedUnit) -> ServiceSummary {
    ServiceSummary { name, description, load_state, active_state, sub_state }
}

/// systemd counts microseconds since 1970; 0 stands for never.
fn since(microseconds: i64) -> Option<String> {
    (microseconds != 0).then(|| clock::rfc3339(microseconds / 1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fixture::{Tree, block_on};

    #[test]
    fn the_suffix_is_added_once() {
        assert_eq!(ServiceName::parse("ssh").unwrap().0, "ssh.service");
        assert_eq!(ServiceName::parse("ssh.service").unwrap().0, "ssh.service");
        assert_eq!(ServiceName::parse("getty@tty1").unwrap().0, "getty@tty1.service");
        assert_eq!(ServiceName::parse("ssh.socket").unwrap().0, "ssh.socket.service");
    }

    #[test]
    fn names_that_no_unit_has_are_refused() {
        for name in ["", "@", "a b", "a/b", "a*", "a\n", "ä", &"a".repeat(256)] {
            assert!(ServiceName::parse(name).is_err(), "{name:?}");
        }
        let too_long_with_suffix = "a".repeat(250);
        for name in ["getty@", ".service", &too_long_with_suffix] {
            assert!(!ServiceName::parse(name).unwrap().can_exist(), "{name:?}");
        }
    }

    #[test]
    fn a_node_without_systemd_has_no_services_to_tell() {
        let host = Tree::new().host();
        assert!(matches!(block_on(host.services()), Err(HostError::Unavailable { .. })));
        assert!(matches!(block_on(host.service("a b")), Err(HostError::Invalid { .. })));
        let refused = block_on(host.control_service("ssh", ServiceAction::Stop));
        assert!(matches!(refused, Err(HostError::Unavailable { .. })));
    }

    #[test]
    fn with_changes_switched_off_bad_names_are_still_invalid() {
        let host = Tree::new().unchangeable_host();
        let refused = block_on(host.control_service("a b", ServiceAction::Stop));
        assert!(matches!(refused, Err(HostError::Invalid { .. })));
        let refused = block_on(host.control_service("ssh", ServiceAction::Stop));
        assert!(matches!(refused, Err(HostError::ChangesDisabled)));
    }

    #[test]
    fn listed_units_are_read_from_busctls_json() {
        let json = r#"[["ssh.service","OpenBSD Secure Shell server","loaded","active","running","","/org/freedesktop/systemd1/unit/ssh_2eservice",0,"","/"]]"#;
        let units: Vec<ListedUnit> = serde_json::from_str(json).unwrap();
        let expected = ServiceSummary {
            name: "ssh.service".to_owned(),
            description: "OpenBSD Secure Shell server".to_owned(),
            load_state: "loaded".to_owned(),
            active_state: "active".to_owned(),
            sub_state: "running".to_owned(),
        };
        assert_eq!(units.into_iter().map(summary).collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn a_time_that_never_came_is_left_out() {
        assert_eq!(since(0), None);
        assert_eq!(since(1_752_000_000_123_456).as_deref(), Some("2025-07-08T18:40:00.123Z"));
    }
}
