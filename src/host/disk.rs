//! Mounted file systems and how full they are, from `proc_pid_mountinfo(5)` and `statvfs(3)`.
//!
//! `statvfs` on a dead network mount never returns: each mount is asked off the worker, with a deadline, and by one
//! thread at most, however often it is asked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use nix::sys::statvfs::{Statvfs, statvfs};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::file::read_text;
use super::{Host, HostError};

/// How long a mount may take to say how full it is.
const DEADLINE: Duration = Duration::from_secs(1);

/// Mounts that are asked at the same time, by all calls together.
pub(super) const PROBE_SLOTS: usize = 8;

/// Mounts that are reported; a node with more has containers, whose mounts are no disks.
const MOUNTS_MAX: usize = 256;

/// File systems that hold no files of their own (`filesystems(5)`); autofs would mount what it is asked about.
const PSEUDO: [&str; 25] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fuse.gvfsd-fuse",
    "fuse.lxcfs",
    "fuse.portal",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "sysfs",
    "tracefs",
];

/// The mounted file systems.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Disks {
    /// In the order of their mount points; each device once, pseudo file systems left out, at most 256.
    pub disks: Vec<Disk>,
}

/// A mounted file system. The numbers are absent where it did not say how full it is; then `error` tells why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Disk {
    /// Where it is mounted.
    pub mount_point: String,
    /// What is mounted, such as `/dev/mmcblk0p2` (`proc_pid_mountinfo(5)`).
    pub source: String,
    /// Type of the file system, such as `ext4`.
    pub fs_type: String,
    /// Major and minor number of the device, such as `179:2`.
    pub device: String,
    /// Whether it is mounted read-only, here or as a whole.
    pub read_only: bool,
    /// Its size (`statvfs(3)`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// What is in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
    /// What programs without privileges can still write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_bytes: Option<u64>,
    /// Inodes in all; 0 where the file system makes them as needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inodes: Option<u64>,
    /// Inodes in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inodes_used: Option<u64>,
    /// Inodes that programs without privileges can still take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inodes_available: Option<u64>,
    /// Why the numbers are absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One permit a mount point: a mount that hangs holds one thread, not one a call. And a slot for each thread.
#[derive(Clone, Debug)]
pub(super) struct Probes {
    mounts: Arc<Mutex<BTreeMap<PathBuf, Arc<Semaphore>>>>,
    slots: Arc<Semaphore>,
}

impl Probes {
    /// With all slots free.
    pub(super) fn new() -> Self {
        Self { mounts: Arc::default(), slots: Arc::new(Semaphore::new(PROBE_SLOTS)) }
    }

    fn of(&self, path: &Path) -> Arc<Semaphore> {
        let mut probes = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        let probe = probes.entry(path.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(1)));
        probe.clone()
    }

    /// Forgets the mounts that nobody is asking: those that are gone must not pile up.
    fn prune(&self) {
        let mut probes = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        probes.retain(|_, probe| Arc::strong_count(probe) > 1);
    }
}

impl Host {
    /// The mounted file systems and how full they are.
    pub async fn disks(&self) -> Result<Disks, HostError> {
        let mounted = mounts(&read_text(&self.paths.proc("self/mountinfo"))?);
        let disks = stream::iter(mounted)
            .map(|disk| self.measure(disk, DEADLINE))
            .buffered(PROBE_SLOTS)
            .filter(|disk| std::future::ready(disk.size_bytes != Some(0)))
            .collect()
            .await;
        self.probes.prune();
        Ok(Disks { disks })
    }

    /// Adds the numbers, or why there are none.
    async fn measure(&self, disk: Disk, deadline: Duration) -> Disk {
        let path = self.paths.absolute(Path::new(&disk.mount_point));
        let probe = self.probes.of(&path);
        let asked = timeout(deadline, async {
            // First the mount's own: a call that waits for a mount that hangs shall keep no slot from others.
            let permits = (probe.acquire_owned().await, Arc::clone(&self.probes.slots).acquire_owned().await);
            spawn_blocking(move || {
                let _permits = permits;
                statvfs(&path)
            })
            .await
        });
        match asked.await {
            Ok(Ok(Ok(numbers))) => with_numbers(disk, &numbers),
            Ok(Ok(Err(errno))) => without_numbers(disk, errno.desc().to_owned()),
            Ok(Err(_)) => without_numbers(disk, "the agent is stopping".to_owned()),
            Err(_) => without_numbers(disk, format!("no answer within {} ms", DEADLINE.as_millis())),
        }
    }
}

#[allow(
    clippy::useless_conversion,
    clippy::unnecessary_fallible_conversions,
    reason = "the C library's counters have 32 bits on some targets"
)]
fn with_numbers(disk: Disk, numbers: &Statvfs) -> Disk {
    let unit = u64::from(numbers.fragment_size());
    let bytes = |blocks| u64::from(blocks).saturating_mul(unit);
    let (inodes, inodes_free) = (u64::from(numbers.files()), u64::from(numbers.files_free()));
    Disk {
        size_bytes: Some(bytes(numbers.blocks())),
        used_bytes: Some(bytes(numbers.blocks().saturating_sub(numbers.blocks_free()))),
        available_bytes: Some(bytes(numbers.blocks_available())),
        inodes: Some(inodes),
        inodes_used: Some(inodes.saturating_sub(inodes_free)),
        inodes_available: Some(u64::from(numbers.files_available())),
        ..disk
    }
}

fn without_numbers(disk: Disk, reason: String) -> Disk {
    Disk { error: Some(reason), ..disk }
}

/// A line of mountinfo that may be reported.
struct Mount {
    disk: Disk,
    /// The folder of the file system that is mounted; `/` but for bind mounts and subvolumes.
    root: String,
}

/// What is mounted, each device once: at the mount of its root, else at the shortest mount point.
fn mounts(mountinfo: &str) -> Vec<Disk> {
    // Of several mounts at one place only the last can be seen.
    let visible: BTreeMap<String, Mount> =
        mountinfo.lines().filter_map(mount).map(|mount| (mount.disk.mount_point.clone(), mount)).collect();
    let mut devices: BTreeMap<String, Mount> = BTreeMap::new();
    let real = visible.into_values().filter(|mount| !PSEUDO.contains(&mount.disk.fs_type.as_str()));
    for mount in real {
        let rank = |mount: &Mount| (mount.root != "/", mount.disk.mount_point.len());
        match devices.get(&mount.disk.device) {
            Some(known) if rank(known) <= rank(&mount) => {}
            _ => {
                devices.insert(mount.disk.device.clone(), mount);
            }
        }
    }
    let mut disks: Vec<Disk> = devices.into_values().map(|mount| mount.disk).collect();
    disks.sort_by(|a, b| a.mount_point.cmp(&b.mount_point));
    disks.truncate(MOUNTS_MAX);
    disks
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn mount(line: &str) -> Option<Mount> {
    let (place, file_system) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(2);
    let (device, root, mount_point, options) = (place.next()?, place.next()?, place.next()?, place.next()?);
    let mut file_system = file_system.split(' ');
    let (fs_type, source, super_options) = (file_system.next()?, file_system.next()?, file_system.next()?);
    let read_only = |options: &str| options.split(',').any(|option| option == "ro");
    Some(Mount {
        disk: Disk {
            mount_point: unescape(mount_point),
            source: unescape(source),
            fs_type: unescape(fs_type),
            device: device.to_owned(),
            read_only: read_only(options) || read_only(super_options),
            ..Disk::default()
        },
        root: unescape(root),
    })
}

/// Space, tab, newline, backslash and `#` stand as `\ooo` (`proc_pid_mountinfo(5)`).
fn unescape(field: &str) -> String {
    let bytes = field.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let octal = (byte == b'\\')
            .then(|| bytes.get(at + 1..at + 4))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(octal.unwrap_or(byte));
        at += if octal.is_some() { 4 } else { 1 };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fixture::{Tree, block_on};

    const MOUNTINFO: &str = r"22 27 0:21 / /proc rw,relatime - proc proc rw
23 27 0:22 / /sys rw,nosuid - sysfs sysfs rw
24 27 0:6 / /dev rw - devtmpfs udev rw,size=480000k
27 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw,errors=remount-ro
28 27 179:1 / /boot/firmware ro,relatime shared:2 - vfat /dev/mmcblk0p1 rw
29 27 0:25 / /run rw,nosuid shared:3 master:1 - tmpfs tmpfs rw,size=98292k
30 27 179:2 /var/lib/data /srv rw,noatime - ext4 /dev/mmcblk0p2 rw
31 27 8:1 / /media/USB\040stick\134x rw - ext4 /dev/sda1 ro
32 27 0:40 / /mnt rw - nfs4 nas:/old rw
33 32 0:41 / /mnt rw - nfs4 nas:/new rw
34 27 0:50 /@home /home rw - btrfs /dev/sdb1 rw,subvol=/@home
35 27 0:50 /@ /b rw - btrfs /dev/sdb1 rw,subvol=/@
not a mount
";

    fn points(disks: &[Disk]) -> Vec<&str> {
        disks.iter().map(|disk| disk.mount_point.as_str()).collect()
    }

    #[test]
    fn each_device_is_told_once_and_pseudo_file_systems_never() {
        let disks = mounts(MOUNTINFO);
        assert_eq!(points(&disks), ["/", "/b", "/boot/firmware", "/media/USB stick\\x", "/mnt", "/run"]);
    }

    #[test]
    fn of_two_mounts_at_one_place_the_visible_one_is_told() {
        let disks = mounts(MOUNTINFO);
        let mnt = disks.iter().find(|disk| disk.mount_point == "/mnt").unwrap();
        assert_eq!(mnt.source, "nas:/new");
    }

    #[test]
    fn read_only_is_the_mounts_or_the_file_systems() {
        let read_only: Vec<_> = mounts(MOUNTINFO).into_iter().filter(|disk| disk.read_only).collect();
        assert_eq!(points(&read_only), ["/boot/firmware", "/media/USB stick\\x"]);
    }

    #[test]
    fn escapes_are_decoded_and_lone_backslashes_kept() {
        assert_eq!(unescape(r"a\040b\011c\134d"), "a b\tc\\d");
        assert_eq!(unescape(r"a\04"), r"a\04");
        assert_eq!(unescape(r"\999\"), r"\999\");
        assert_eq!(unescape(r"n\303\266de"), "nöde");
    }

    #[test]
    fn a_mounted_file_system_says_how_full_it_is() {
        let tree = Tree::new().with("proc/self/mountinfo", "27 1 179:2 / / rw - ext4 /dev/mmcblk0p2 rw\n");
        let disks = block_on(tree.host().disks()).unwrap().disks;
        let (size, used) = (disks[0].size_bytes.unwrap(), disks[0].used_bytes.unwrap());
        assert!(size > 0 && used <= size);
        assert_eq!(disks[0].error, None);
    }

    #[test]
    fn a_mount_that_is_gone_is_told_with_its_reason() {
        let tree = Tree::new().with("proc/self/mountinfo", "27 1 179:2 / /gone rw - ext4 /dev/sda1 rw\n");
        let disks = block_on(tree.host().disks()).unwrap().disks;
        assert_eq!(disks[0].size_bytes, None);
        assert_eq!(disks[0].error.as_deref(), Some("No such file or directory"));
    }

    #[test]
    fn a_mount_that_hangs_holds_one_thread_however_often_it_is_asked() {
        let tree = Tree::new();
        let host = tree.host();
        let disk = mounts("27 1 179:2 / / rw - nfs4 nas:/x rw\n").remove(0);
        block_on(async {
            let probe = host.probes.of(&host.paths.absolute(Path::new("/")));
            let _hung = probe.acquire().await.unwrap();
            let told = host.measure(disk, Duration::ZERO).await;
            assert!(told.error.unwrap().starts_with("no answer"));
            assert_eq!(probe.available_permits(), 0);
        });
    }

    #[test]
    fn mounts_that_nobody_asks_are_forgotten() {
        let probes = Probes::new();
        let hung = probes.of(Path::new("/hung"));
        drop(probes.of(Path::new("/gone")));
        probes.prune();
        assert_eq!(probes.mounts.lock().unwrap().keys().collect::<Vec<_>>(), [Path::new("/hung")]);
        drop(hung);
    }
}
