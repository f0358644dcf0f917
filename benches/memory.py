"""Memory and start of an agent whose ring holds a million entries, and its rate: python3 benches/memory.py [NAME=BINARY...]

The binary that ships where none is named; of several, each is measured in turn within a round, on the same ring. Needs wrk.
ENTRIES (1000000), ROUNDS (4), SECONDS_EACH (5).
"""

import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import measure

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "target/x86_64-unknown-linux-musl/dist/nodeaudit"
ENTRIES = int(os.environ.get("ENTRIES", "1000000"))
ROUNDS = int(os.environ.get("ROUNDS", "4"))
SECONDS = int(os.environ.get("SECONDS_EACH", "5"))
PATH = "/node/hostname"
CONNECTIONS = (64, 256, 2000)
LIMITS = {
    "NODEAUDIT_AUDIT__MAX_ENTRIES": str(ENTRIES),
    "NODEAUDIT_AUDIT__MAX_BYTES": str(ENTRIES * 400 + 8_000_000),
    "NODEAUDIT_SERVER__MAX_CONNECTIONS": "4000",
    "NODEAUDIT_SERVER__MAX_CONNECTIONS_PER_PEER": "4000",
    "NODEAUDIT_LIMITS__PEER_PER_S": "0",
    "NODEAUDIT_LIMITS__ACTOR_PER_S": "0",
}


class Agent:
    """An agent in `folder`, on a socket that was bound before it: a call may wait in it while the agent starts, as with a socket unit."""

    def __init__(self, binary, folder, token):
        self.token = token
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        # sd_listen_fds(3): descriptors from 3 on, meant for the process of that ID.
        command = ["sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&0 </dev/null', "sh", binary, "serve", "--dev"]
        began = time.monotonic()
        with open(folder / "stderr", "w") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, env={**os.environ, **LIMITS}, stdin=listener, stdout=subprocess.DEVNULL, stderr=log
            )
        listener.close()
        self.get(PATH)
        self.start_ms = (time.monotonic() - began) * 1000

    def get(self, path):
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = response.read(1 << 20)
            # An export is too long to be kept.
            while response.read(1 << 20):
                pass
            return answer

    def memory_kib(self, field="VmRSS"):
        return measure.memory_kib(self.process.pid, field)

    def load(self, connections, seconds):
        """Calls a second while `connections` ask for PATH, and microseconds of processor time that the agent took for each."""
        authorization = f"Authorization: Bearer {self.token}"
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-H", authorization, self.url + PATH]
        return measure.load(self.process.pid, command)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)


def measured(binary, folder, token):
    with Agent(binary, folder, token) as agent:
        time.sleep(1)
        row = {"start ms": agent.start_ms, "idle KiB": agent.memory_kib()}
        for connections in CONNECTIONS:
            row[f"requests/s, c={connections}"], row[f"us/request, c={connections}"] = agent.load(connections, SECONDS)
            # What it held at the most while it was loaded.
            row[f"c={connections} KiB"] = agent.memory_kib("VmHWM")
        agent.get("/audit?limit=100&offset=5000")
        agent.get("/audit/export?format=ndjson")
        row["export KiB"] = agent.memory_kib("VmHWM")
        # As a power cut leaves it: with a WAL that the next start has to go through.
        agent.process.kill()
        agent.process.wait()
    with Agent(binary, folder, token) as agent:
        time.sleep(1)
        row["idle after a kill KiB"] = agent.memory_kib()
    return row


def main():
    named = [argument.split("=", 1) for argument in sys.argv[1:]]
    agents = {name: pathlib.Path(binary).resolve() for name, binary in named} or {"as it ships": SHIPPED}
    first = next(iter(agents.values()))
    with tempfile.TemporaryDirectory() as work:
        folder = pathlib.Path(work)
        issue = [first, "token", "issue", "--dev", "--subject", "bench@example.com", "--role", "admin", "--ttl", "12h"]
        token = subprocess.run(issue, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
        with Agent(first, folder, token) as agent:
            while json.loads(agent.get("/audit/status"))["entries"] < ENTRIES * 0.99:
                agent.load(64, 2)
        rows = {name: [] for name in agents}
        for _ in range(ROUNDS):
            for name, binary in agents.items():
                rows[name].append(measured(binary, folder, token))
                print(name, {what: round(value) for what, value in rows[name][-1].items()}, file=sys.stderr, flush=True)
    columns = list(rows[next(iter(rows))][0])
    print(f"| agent | {' | '.join(columns)} | bytes |\n|---|{'---:|' * (len(columns) + 1)}")
    for name, its in rows.items():
        cells = [f"{statistics.median(row[column] for row in its):,.0f}" for column in columns]
        print(f"| {name} | {' | '.join(cells)} | {agents[name].stat().st_size:,} |")


main()
