//! A disk of its own under a node's state folder, whose power can be cut and whose medium can fail.
//!
//! ```text
//! agent -> ext4 -> loop device -> nbdfuse -> nbdkit [filter] -> image file
//! ```
//! The filter is what makes it a bad disk. Everything above it is what a board has: the kernel's own file system and page cache.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Whence, lseek};
use tempfile::TempDir;

use super::{Dice, Killed, Node, can_isolate, eventually, skipped};

const PROGRAMS: [&str; 7] = [
    "/usr/bin/nbdfuse",
    "/usr/bin/fusermount3",
    "/usr/sbin/losetup",
    "/usr/sbin/mkfs.ext4",
    "/usr/bin/nbdkit",
    "/usr/bin/mount",
    "/usr/bin/umount",
];

/// What ext4 writes at once, and what it takes for granted to be written whole.
const BLOCK_BYTES: usize = 4096;

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Medium {
    /// What was not flushed is lost when the power goes.
    VolatileCache,
    /// Writes fail with EIO as long as [`Disk::set_failing`] says so. Its ext4 has no journal: one that can't be written makes
    /// ext4 read-only for good, and then it is ext4 that is tested.
    Failing,
    /// Nothing, until ext4 is told that there was something.
    Sound,
}

/// A disk. It goes with its test.
pub(crate) struct Disk {
    medium: Medium,
    mount_point: PathBuf,
    folder: TempDir,
    power: Option<Power>,
}

/// What runs as long as the disk has power.
struct Power {
    server: Killed,
    _bridge: Killed,
    /// The volatile cache, in a file that lives as long as this.
    cache: Option<File>,
    device: String,
}

impl Disk {
    /// A new disk under the state folder of a node that has none yet. None where this machine can't; it says so loudly.
    pub(crate) fn new(node: &Node, medium: Medium, bytes: u64) -> Option<Self> {
        if !can_isolate(&PROGRAMS) || !can_isolate(&["/dev/fuse", "/dev/loop-control"]) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut disk = Self { medium, mount_point: node.state_dir(), folder, power: None };
        fs::create_dir(&disk.mount_point).unwrap();
        fs::create_dir(disk.fuse()).unwrap();
        File::create(disk.image()).unwrap().set_len(bytes).unwrap();
        let journal = if medium == Medium::Failing { "^has_journal" } else { "has_journal" };
        let options = ["-q", "-F", "-m", "0", "-O", journal, "-E", "lazy_itable_init=0,root_owner=0:0"];
        run("/usr/sbin/mkfs.ext4", &options, &disk.image()).unwrap();
        match disk.try_power_on() {
            Ok(()) => Some(disk),
            Err(error) => {
                skipped(&format!("this machine does not let its root make a disk: {error}"));
                None
            }
        }
    }

    /// Brings the disk back as it is found after a power cut: ext4 recovers from its journal.
    pub(crate) fn power_on(&mut self) {
        self.try_power_on().unwrap();
    }

    fn try_power_on(&mut self) -> io::Result<()> {
        let (socket, fuse) = (self.folder.path().join("socket"), self.fuse());
        let _ = fs::remove_file(&socket);
        let mut server = Command::new("/usr/bin/nbdkit");
        server.args(["--foreground", "--unix"]).arg(&socket).env("TMPDIR", self.folder.path());
        match self.medium {
            Medium::VolatileCache => server.args(["--filter=cache", "file"]).arg(self.image()).arg("cache=writeback"),
            Medium::Failing => {
                let switch = format!("error-pwrite-file={}", self.switch().display());
                server.args(["--filter=error", "file"]).arg(self.image());
                server.args(["error=EIO", "error-pwrite-rate=100%", &switch])
            }
            Medium::Sound => server.arg("file").arg(self.image()),
        };
        let server = spawn(&mut server)?;
        eventually("the socket of nbdkit", || socket.exists().then_some(()));
        let bridge = spawn(Command::new("/usr/bin/nbdfuse").arg(&fuse).arg("--unix").arg(&socket))?;
        let exported = fuse.join("nbd");
        eventually("the disk of nbdfuse", || exported.exists().then_some(()));
        let device = run("/usr/sbin/losetup", &["--find", "--show"], &exported)?;
        let cache = (self.medium == Medium::VolatileCache).then(|| self.cache_of(&server)).transpose()?;
        self.power = Some(Power { server, _bridge: bridge, cache, device: device.trim().to_owned() });
        run("/usr/bin/mount", &["-t", "ext4", "-o", "errors=continue", device.trim()], &self.mount_point)?;
        Ok(())
    }

    /// Stops the disk in the middle of what it does, and gives the moment: what was acknowledged before it had its chance.
    pub(crate) fn cut(&self) -> Instant {
        let moment = Instant::now();
        self.signal(Signal::SIGKILL);
        moment
    }

    /// Has the disk answer nothing until the hang is dropped.
    #[must_use]
    pub(crate) fn hang(&self) -> Hang<'_> {
        self.signal(Signal::SIGSTOP);
        Hang(self)
    }

    /// Has writes fail from now on, or not any more.
    pub(crate) fn set_failing(&self, failing: bool) {
        assert_eq!(self.medium, Medium::Failing);
        if failing {
            File::create(self.switch()).unwrap();
        } else {
            fs::remove_file(self.switch()).unwrap();
        }
    }

    /// Makes ext4 believe that it is damaged: it lets nobody write any more, whoever has a file open or not.
    pub(crate) fn make_read_only(&self) {
        let power = self.power.as_ref().unwrap();
        run(
            "/usr/bin/mount",
            &["--options-mode=ignore", "-o", "remount,errors=remount-ro", &power.device],
            &self.mount_point,
        )
        .unwrap();
        let name = Path::new(&power.device).file_name().unwrap();
        let trigger = Path::new("/sys/fs/ext4").join(name).join("trigger_fs_error");
        fs::write(trigger, "the test says so").unwrap();
    }

    /// Takes the disk away from below its file system. To be called when nobody uses it any more.
    ///
    /// Of what the volatile cache held when the power went, any part may have reached the medium in any order: each block is kept
    /// with a probability that the dice give.
    pub(crate) fn power_off(&mut self, dice: &mut Dice) {
        let Some(power) = self.power.take() else { return };
        let cache = self.release(power).unwrap();
        if let Some(cache) = cache {
            let kept = [0, 50, 95][usize::try_from(dice.below(3)).unwrap()];
            self.keep_part(&cache, || dice.below(100) < kept).unwrap();
        }
    }

    /// Gives back what the kernel holds for the disk. Safe to call however far the power came up.
    fn release(&self, power: Power) -> io::Result<Option<File>> {
        // A process that was killed may still be on its way out.
        let unmounted =
            eventually("the end of all who use the disk", || match run("/usr/bin/umount", &[], &self.mount_point) {
                Err(error) if error.to_string().contains("busy") => None,
                ended => Some(ended),
            });
        let detached = run("/usr/sbin/losetup", &["--detach"], Path::new(&power.device));
        let Power { server, _bridge: bridge, cache, .. } = power;
        let closed = run("/usr/bin/fusermount3", &["-u", "-z"], &self.fuse());
        drop((server, bridge));
        unmounted.and(detached).and(closed).map(|_| cache)
    }

    /// Writes some of the blocks of the cache that differ from those of the image.
    fn keep_part(&self, cache: &File, mut is_kept: impl FnMut() -> bool) -> io::Result<()> {
        let image = File::options().read(true).write(true).open(self.image())?;
        let (mut cached, mut stored) = ([0; BLOCK_BYTES], [0; BLOCK_BYTES]);
        let mut end = 0;
        loop {
            let begin = match lseek(cache, end, Whence::SeekData) {
                Err(Errno::ENXIO) => return Ok(()),
                begin => begin?,
            };
            end = lseek(cache, begin, Whence::SeekHole)?;
            for offset in (begin.unsigned_abs()..end.unsigned_abs()).step_by(BLOCK_BYTES) {
                cache.read_exact_at(&mut cached, offset)?;
                image.read_exact_at(&mut stored, offset)?;
                if cached != stored && is_kept() {
                    image.write_all_at(&cached, offset)?;
                }
            }
        }
    }

    /// The file that nbdkit caches in, which has no name any more.
    fn cache_of(&self, server: &Killed) -> io::Result<File> {
        for entry in fs::read_dir(format!("/proc/{}/fd", server.0.id()))? {
            let path = entry?.path();
            let target = fs::read_link(&path)?;
            if target.starts_with(self.folder.path()) && target.to_string_lossy().ends_with("(deleted)") {
                return File::open(path);
            }
        }
        Err(io::Error::other("nbdkit has no cache"))
    }

    fn signal(&self, signal: Signal) {
        let server = &self.power.as_ref().unwrap().server;
        // Not waited for yet, so the number is still its own.
        kill(Pid::from_raw(server.0.id().try_into().unwrap()), signal).unwrap();
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn fuse(&self) -> PathBuf {
        self.folder.path().join("fuse")
    }

    fn switch(&self) -> PathBuf {
        self.folder.path().join("writes-fail")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let Some(power) = self.power.take() else { return };
        let released = self.release(power);
        assert!(released.is_ok() || std::thread::panicking(), "{released:?}");
    }
}

/// A disk that answers nothing. While it lasts, whoever uses the disk can't even be killed.
pub(crate) struct Hang<'a>(&'a Disk);

impl Drop for Hang<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::SIGCONT);
    }
}

fn spawn(command: &mut Command) -> io::Result<Killed> {
    // What they say of a disk that was taken away is no news.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(Killed)
}

/// Runs a program to its end, and gives what it printed.
fn run(program: &str, arguments: &[&str], path: &Path) -> io::Result<String> {
    let output = Command::new(program).args(arguments).arg(path).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(io::Error::other(format!("{program} {}: {}", path.display(), String::from_utf8_lossy(&output.stderr).trim())))
}
