"""A small machine: one processor, 128 MiB of memory, a slow disk, and all of them, beside the machine as it is.

python3 benches/small.py, as root after benches/run.sh has built the agent. Needs nbdkit with nbdfuse, taskset and cgroups (either version).
ROUNDS (3) and SECONDS_EACH (3). Every round runs every case once, in turn; ratios are taken within a round. Each case fails where a
call has no answer, an answer is no 2xx, or an entry is missing.
"""

import contextlib
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import measure
import run

ROUNDS = int(os.environ.get("ROUNDS", "3"))
SECONDS = int(os.environ.get("SECONDS_EACH", "3"))
CONNECTIONS = 64
MEMORY_BYTES = 128 << 20
# Every write to the medium takes so long, be it one of a flush or of the file system's own.
WRITE_MS = 10
DISK_BYTES = 512 << 20


class Small(run.Agent):
    """An agent that is started by another program."""

    def __init__(self, durability, before):
        super().__init__("agent", durability)
        self.before = before

    def command(self, folder):
        command, environment = super().command(folder)
        return [*self.before, *command], environment


def wait_for(what, is_there):
    deadline = time.monotonic() + 20
    while not is_there():
        if time.monotonic() > deadline:
            raise SystemExit(f"there is no {what}")
        time.sleep(0.05)


@contextlib.contextmanager
def running(*command):
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextlib.contextmanager
def slow_disk():
    """The folder of an ext4 whose disk takes its time."""
    with tempfile.TemporaryDirectory() as work, contextlib.ExitStack() as stack:
        folder = pathlib.Path(work)
        image, nbd, fuse, mount = (folder / name for name in ("image", "socket", "fuse", "mount"))
        fuse.mkdir()
        mount.mkdir()
        with open(image, "wb") as file:
            file.truncate(DISK_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", image], check=True)
        delay = ["--filter=delay", "file", image, f"wdelay={WRITE_MS}ms"]
        stack.enter_context(running("nbdkit", "--foreground", "--unix", nbd, *delay))
        wait_for("socket of nbdkit", nbd.exists)
        stack.enter_context(running("nbdfuse", fuse, "--unix", nbd))
        wait_for("disk of nbdfuse", (fuse / "nbd").exists)
        device = subprocess.check_output(["losetup", "--find", "--show", fuse / "nbd"], text=True).strip()
        stack.callback(subprocess.run, ["losetup", "--detach", device], check=True)
        subprocess.run(["mount", "-o", "noatime", device, mount], check=True)
        stack.callback(subprocess.run, ["umount", mount], check=True)
        yield mount


@contextlib.contextmanager
def little_memory():
    """What a program is started by to have so much memory and no more."""
    first, second = pathlib.Path("/sys/fs/cgroup/memory"), pathlib.Path("/sys/fs/cgroup")
    group = (first if first.is_dir() else second) / f"nodeaudit-bench-{os.getpid()}"
    if not first.is_dir():
        (second / "cgroup.subtree_control").write_text("+memory")
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if first.is_dir() else "memory.max")).write_text(str(MEMORY_BYTES))
        yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
    finally:
        group.rmdir()


def measured(durability, out, before):
    """Requests a second, the 99th percentile in ms, and MiB of memory that were resident at most."""
    run.OUT = out
    with Small(durability, before) as agent:
        result = run.load(agent, CONNECTIONS, SECONDS)
        return result["per_s"], result["p99_us"] / 1000, measure.memory_kib(agent.process.pid, "VmHWM") / 1024


def main():
    one_processor = ["taskset", "-c", "0"]
    with tempfile.TemporaryDirectory() as usual, slow_disk() as slow, little_memory() as little:
        cases = {
            "as it is": (usual, []),
            "one processor": (usual, one_processor),
            "128 MiB": (usual, little),
            f"{WRITE_MS} ms a write": (slow, []),
            "all three": (slow, [*little, *one_processor]),
        }
        results = {}
        for number in range(ROUNDS):
            for name, (out, before) in cases.items():
                for durability in ("relaxed", "strict"):
                    results.setdefault((name, durability), []).append(measured(durability, pathlib.Path(out), before))
            print(f"round {number + 1} of {ROUNDS}", flush=True)
    print("| machine | durability | requests/s | of those as it is | p99 ms | resident MiB at most |\n|---|---|---:|---:|---:|---:|")
    for (name, durability), rows in results.items():
        ratio = statistics.median(row[0] / usual[0] for row, usual in zip(rows, results["as it is", durability]))
        per_s, p99_ms, memory = (statistics.median(row[index] for row in rows) for index in range(3))
        print(f"| {name} | {durability} | {per_s:,.0f} | {ratio:.2f} | {p99_ms:,.1f} | {memory:.1f} |")


main()
