"""Bytes that reach the disk for each entry, by the block device's own counters: a file system of its own on a loop device.

python3 benches/flash.py [CASE...], as root after benches/run.sh has built the agent; all cases where none is named. SECONDS_EACH (60) is
the length of each; 1800 is the soak. What the stop writes (the last checkpoint) counts too, so a short run at a low rate tells more
bytes than a long one.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import run

SECONDS = int(os.environ.get("SECONDS_EACH", "60"))


@contextlib.contextmanager
def disk():
    """A mounted ext4 of 512 MiB: its folder, and how many bytes were written to its device."""
    with tempfile.TemporaryDirectory() as folder:
        image, mount = pathlib.Path(folder, "image"), pathlib.Path(folder, "mount")
        mount.mkdir()
        with open(image, "wb") as file:
            file.truncate(512 << 20)
        # Nothing of the file system's own making is left to be written while the agent runs.
        subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", image], check=True)
        device = subprocess.check_output(["losetup", "--find", "--show", image], text=True).strip()
        try:
            subprocess.run(["mount", "-o", "noatime", device, mount], check=True)
            try:
                yield mount, lambda: written_bytes(mount, pathlib.Path(device).name)
            finally:
                subprocess.run(["umount", mount], check=True)
        finally:
            subprocess.run(["losetup", "--detach", device], check=True)


def written_bytes(mount, device):
    subprocess.run(["sync", "-f", mount], check=True)
    # Documentation/block/stat.rst: the seventh field is sectors of 512 bytes written.
    return int(pathlib.Path(f"/sys/block/{device}/stat").read_text().split()[6]) * 512


def paced(per_s):
    def calls(agent):
        start = time.monotonic()
        for number in range(per_s * SECONDS):
            time.sleep(max(0, start + number / per_s - time.monotonic()))
            agent.get(run.PATH)

    return calls


CASES = [  # case, durability, load, at most
    ("relaxed, 64 connections", "relaxed", lambda agent: run.load(agent, 64, SECONDS), 230),
    ("strict, 64 connections", "strict", lambda agent: run.load(agent, 64, SECONDS), 650),
    ("relaxed, 10 a second", "relaxed", paced(10), 1_300),
    ("relaxed, 1 a second", "relaxed", paced(1), 9_600),
]

wanted = sys.argv[1:] or [case[0] for case in CASES]
if unknown := set(wanted) - {case[0] for case in CASES}:
    raise SystemExit(f"no such case: {', '.join(unknown)}; there are: {', '.join(case[0] for case in CASES)}")

print("| case | entries | bytes to the device | bytes/entry | aim at most |\n|---|---:|---:|---:|---:|")
for name, durability, load, aim in (case for case in CASES if case[0] in wanted):
    with disk() as (mount, written):
        run.OUT = mount
        with run.Agent(name, durability) as agent:
            entries, before = agent.lines(), written()
            load(agent)
            entries = agent.lines() - entries
            agent.process.send_signal(signal.SIGTERM)
            agent.process.wait(timeout=30)
            written_all = written() - before
        print(f"| {name} | {entries:,} | {written_all:,} | {written_all / entries:,.0f} | {aim:,} |", flush=True)
