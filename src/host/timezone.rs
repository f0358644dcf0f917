//! The time zone: the target of `/etc/localtime` (`localtime(5)`), changed through systemd-timedated or directly.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::bus::Interface;
use super::file::{read_text_if_any, remove, replace_link, replace_text};
use super::{Host, HostError, Paths};

const TIMEDATED: Interface<'static> = Interface {
    what: "systemd-timedated",
    service: "org.freedesktop.timedate1",
    object: "/org/freedesktop/timedate1",
    name: "org.freedesktop.timedate1",
};

/// Longest name that is looked up; the longest in the IANA database has 32 characters.
const LENGTH_MAX: usize = 64;

/// The first bytes of a compiled zone (RFC 9636, section 3.1).
const MAGIC: &[u8; 4] = b"TZif";

/// The node's time zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Timezone {
    /// Name in the IANA database, such as `Europe/Berlin`; `UTC` where none is set (`localtime(5)`).
    pub timezone: String,
}

/// A well-formed name of a time zone: what a node can be asked to have, whether it knows it or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimezoneName(String);

impl TimezoneName {
    /// The name, or why it is none. No such name leads out of the folder of zones.
    pub fn parse(name: &str) -> Result<Self, HostError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-');
        let is_part =
            |part: &str| part.starts_with(|first: char| first.is_ascii_alphanumeric()) && part.bytes().all(allowed);
        if name.len() > LENGTH_MAX || !name.split('/').all(is_part) {
            return Err(HostError::Invalid {
                what: "timezone",
                reason: "it must be a name such as Europe/Berlin, of at most 64 characters".to_owned(),
            });
        }
        Ok(Self(name.to_owned()))
    }
}

impl JsonSchema for TimezoneName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TimezoneName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        const PART: &str = "[A-Za-z0-9][A-Za-z0-9_+-]*";
        json_schema!({
            "type": "string",
            "description": "Name of a zone in the IANA database, such as Europe/Berlin.",
            "minLength": 1,
            "maxLength": LENGTH_MAX,
            "pattern": format!("^{PART}(/{PART})*$"),
        })
    }
}

impl Host {
    /// The node's time zone.
    pub async fn timezone(&self) -> Result<Timezone, HostError> {
        let paths = self.paths.clone();
        self.storage.run("the time zone", move || read(&paths)).await
    }

    /// Gives the node another time zone. [`HostError::Unknown`] where the node has no such zone.
    pub async fn set_timezone(&self, name: &str) -> Result<Timezone, HostError> {
        let TimezoneName(name) = TimezoneName::parse(name)?;
        let (paths, zone) = (self.paths.clone(), name.clone());
        self.storage.run("the time zones", move || find(&paths, &zone)).await?;
        let change = self.begin_change().await?;
        if let Some(bus) = self.bus() {
            bus.invoke(TIMEDATED, "SetTimezone", &["sb", &name, "false"]).await?;
        } else {
            let (paths, zone) = (self.paths.clone(), name.clone());
            self.storage
                .run("changing the time zone", move || {
                    let _change = change;
                    set_directly(&paths, &zone)
                })
                .await?;
        }
        Ok(Timezone { timezone: name })
    }
}

/// The name behind `/etc/localtime`; where that is a copy instead of a link, Debian's `/etc/timezone` has it.
pub(super) fn read(paths: &Paths) -> Result<Timezone, HostError> {
    let linked = fs::read_link(paths.etc("localtime")).ok();
    let timezone = match linked.as_deref().and_then(zone_of) {
        Some(zone) => Some(zone),
        None => read_text_if_any(&paths.etc("timezone"))?.map(|text| text.trim().to_owned()),
    };
    Ok(Timezone { timezone: timezone.filter(|zone| !zone.is_empty()).unwrap_or_else(|| "UTC".to_owned()) })
}

fn zone_of(target: &Path) -> Option<String> {
    let target = target.to_str()?;
    let (_, zone) = target.split_once("zoneinfo/")?;
    Some(zone.to_owned())
}

/// A zone is a compiled file below the folder of zones. Debian's `zoneinfo/localtime` leads back to `/etc/localtime`.
fn find(paths: &Paths, name: &str) -> Result<(), HostError> {
    let unknown = || HostError::Unknown { what: "time zone", name: name.to_owned() };
    let file = paths.usr("share/zoneinfo").join(name);
    let leads_back = fs::read_link(&file).is_ok_and(|target| target.as_os_str().as_bytes().ends_with(b"etc/localtime"));
    if leads_back || !file.is_file() {
        return Err(unknown());
    }
    let mut magic = [0; MAGIC.len()];
    match File::open(&file).and_then(|mut zone| zone.read_exact(&mut magic)) {
        Ok(()) if &magic == MAGIC => Ok(()),
        Ok(()) => Err(unknown()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(unknown()),
        Err(source) => Err(HostError::read(&file, source)),
    }
}

/// Replaces the link, then `/etc/timezone` where the image has one; if that fails, the old link comes back.
fn set_directly(paths: &Paths, name: &str) -> Result<(), HostError> {
    let link = paths.etc("localtime");
    let before = fs::read_link(&link).ok();
    let copy = paths.etc("timezone");
    let has_copy = copy.exists();
    replace_link(&link, &PathBuf::from("../usr/share/zoneinfo").join(name))?;
    if !has_copy {
        return Ok(());
    }
    replace_text(&copy, &format!("{name}\n")).map_err(|error| {
        let restored = before.map_or_else(|| remove(&link), |target| replace_link(&link, &target));
        restored.err().unwrap_or(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fixture::{Tree, block_on};

    fn zones() -> Tree {
        Tree::new()
            .with("usr/share/zoneinfo/Europe/Berlin", "TZif2...")
            .with("usr/share/zoneinfo/Etc/UTC", "TZif2...")
            .with("usr/share/zoneinfo/tzdata.zi", "# version 2025b")
            .with("usr/share/zoneinfo/leapseconds", "# leap seconds")
            .with_link("usr/share/zoneinfo/localtime", "/etc/localtime")
            .with_link("etc/localtime", "/usr/share/zoneinfo/Etc/UTC")
    }

    #[test]
    fn the_zone_is_where_localtime_leads() {
        assert_eq!(block_on(zones().host().timezone()).unwrap().timezone, "Etc/UTC");
        let relative = Tree::new().with_link("etc/localtime", "../usr/share/zoneinfo/America/Argentina/Ushuaia");
        assert_eq!(block_on(relative.host().timezone()).unwrap().timezone, "America/Argentina/Ushuaia");
    }

    #[test]
    fn a_copied_zone_is_named_by_etc_timezone_and_no_zone_is_utc() {
        let copied = Tree::new().with("etc/localtime", "TZif2").with("etc/timezone", "Asia/Tokyo\n");
        assert_eq!(block_on(copied.host().timezone()).unwrap().timezone, "Asia/Tokyo");
        assert_eq!(block_on(Tree::new().host().timezone()).unwrap().timezone, "UTC");
    }

    #[test]
    fn a_malformed_name_is_invalid_and_a_zone_that_is_none_unknown() {
        let host = zones().host();
        let long = "a".repeat(65);
        for name in
            ["", "/", "Europe/", "/etc/passwd", "../x", "Europe/../UTC", "a b", "a\n", "-x", "Europe//Berlin", &long]
        {
            let refused = block_on(host.set_timezone(name)).unwrap_err();
            assert!(matches!(refused, HostError::Invalid { .. }), "{name:?}: {refused}");
        }
        let tree = zones();
        for name in ["Europe/Atlantis", "Europe", "leapseconds", "localtime"] {
            let refused = block_on(tree.host().set_timezone(name)).unwrap_err();
            assert!(matches!(refused, HostError::Unknown { .. }), "{name:?}: {refused}");
        }
    }

    #[test]
    fn a_change_replaces_the_link_and_the_copy_of_the_name() {
        let tree = zones().with("etc/timezone", "Etc/UTC\n");
        block_on(tree.host().set_timezone("Europe/Berlin")).unwrap();
        assert_eq!(block_on(tree.host().timezone()).unwrap().timezone, "Europe/Berlin");
        assert_eq!(fs::read_to_string(tree.paths().etc("timezone")).unwrap(), "Europe/Berlin\n");
        assert!(tree.paths().etc("localtime").is_file(), "the link leads to the zone");
    }

    #[test]
    fn a_failed_second_step_brings_the_first_back() {
        let tree = zones().with("etc/timezone/in-the-way", "");
        let refused = block_on(tree.host().set_timezone("Europe/Berlin")).unwrap_err();
        assert!(!matches!(refused, HostError::Unknown { .. }), "{refused}");
        assert_eq!(fs::read_link(tree.paths().etc("localtime")).unwrap(), Path::new("/usr/share/zoneinfo/Etc/UTC"));
    }

    #[test]
    fn with_changes_switched_off_names_are_still_judged_and_nothing_changes() {
        let tree = zones();
        let host = tree.unchangeable_host();
        assert!(matches!(block_on(host.set_timezone("..")), Err(HostError::Invalid { .. })));
        assert!(matches!(block_on(host.set_timezone("No/Where")), Err(HostError::Unknown { .. })));
        assert!(matches!(block_on(host.set_timezone("Europe/Berlin")), Err(HostError::ChangesDisabled)));
        assert_eq!(block_on(tree.host().timezone()).unwrap().timezone, "Etc/UTC");
    }
}
