"""What the benchmarks ask of an agent's process, and of wrk."""

import os
import pathlib
import subprocess


def memory_kib(pid, field="VmRSS"):
    """A field of proc_pid_status(5)."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(field)))


def processor_s(pid):
    """Seconds of processor time, of user and system."""
    # proc_pid_stat(5): the name before them may hold spaces, but no further parenthesis.
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(pid, command):
    """What wrk, called so, got from that process: requests a second, and microseconds of processor time for each."""
    before = processor_s(pid)
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(out)
    words = [line.split() for line in out.splitlines()]
    calls = next(int(line[0]) for line in words if line[1:3] == ["requests", "in"])
    rate = next(float(line[1]) for line in words if line[:1] == ["Requests/sec:"])
    return rate, (processor_s(pid) - before) * 1e6 / calls
