"""What fleet managers do all day, in one run: polls, first pages, filtered searches, exports; and what it does to those who commit.

python3 benches/query.py [BINARY]: target/release/nodeaudit where none is named. Needs wrk, curl, the sqlite3 shell, journalctl,
systemd-journal-remote with its gatewayd, and datasette where benches/run.sh puts it. ENTRIES (1000000), ROUNDS (3), SECONDS_EACH (3).

Every round measures everything once, what is compared in turn. Ratios are taken within a round; printed are their medians, the least and
the most. Whatever runs beside it slows both sides, so how busy the machine was is printed too.
"""

import contextlib
import http.client
import json
import os
import pathlib
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import measure

ROOT = pathlib.Path(__file__).resolve().parent.parent
ENTRIES = int(os.environ.get("ENTRIES", "1000000"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
SECONDS = int(os.environ.get("SECONDS_EACH", "3"))
CONNECTIONS = (16, 64)
JOURNAL_REMOTE = "/lib/systemd/systemd-journal-remote"
JOURNAL_GATEWAYD = "/lib/systemd/systemd-journal-gatewayd"
DATASETTE = ROOT / "target/bench/venv/bin/datasette"
LIMITS = {
    "NODEAUDIT_AUDIT__MAX_ENTRIES": str(ENTRIES * 6 // 5),
    "NODEAUDIT_AUDIT__MAX_BYTES": str(ENTRIES * 400 + 8_000_000),
    "NODEAUDIT_LIMITS__PEER_PER_S": "0",
    "NODEAUDIT_LIMITS__ACTOR_PER_S": "0",
    "NODEAUDIT_LIMITS__FAILURES_PER_MIN": "0",
}

# One call in a thousand is what the search looks for.
FILL = """
local n = 0
request = function()
  n = n + 1
  if n % 1000 == 0 then return wrk.format("PUT", "/node/hostname") end
  return wrk.format("GET", "/node/load")
end
"""
SEARCH = "/audit?limit=1&method=PUT&user=bench@example.com"
EXPORT = "/audit/export?format=ndjson"

# So often a round the search is timed, beside the shell.
SEARCHES = 3

# Commits are timed in this many blocks a round, every other one while searches run.
BLOCKS = 8
COMMITS_PER_BLOCK = 250


class Agent:
    """An agent in `folder`, and the tokens of who asks and of who commits."""

    def __init__(self, binary, folder):
        self.folder = folder
        self.binary = binary
        with open(folder / "stderr", "w") as log:
            self.process = subprocess.Popen(
                [binary, "serve", "--dev", "--listen", "127.0.0.1:0"],
                cwd=folder, env={**os.environ, **LIMITS}, stdout=subprocess.PIPE, stderr=log, text=True,
            )
        line = ""
        while "http://127.0.0.1:" not in line:
            line = self.process.stdout.readline()
            if not line:
                raise SystemExit((folder / "stderr").read_text())
        self.address = line.partition("http://")[2].split()[0].strip("/")
        self.url = f"http://{self.address}"
        self.asks, self.commits = self.token("bench@example.com"), self.token("commits@example.com")

    def token(self, subject):
        command = [self.binary, "token", "issue", "--dev", "--subject", subject, "--role", "admin", "--ttl", "12h"]
        return subprocess.run(command, cwd=self.folder, check=True, capture_output=True, text=True).stdout.strip()

    def get(self, path):
        """Seconds that the answer took, its head and its body."""
        connection = http.client.HTTPConnection(self.address, timeout=120)
        began = time.monotonic()
        connection.request("GET", path, headers={"Authorization": f"Bearer {self.asks}"})
        response = connection.getresponse()
        body = response.read()
        took = time.monotonic() - began
        if response.status != 200:
            raise SystemExit(f"{path}: {response.status} {body[:500]}")
        return took, response, body

    def entries(self):
        return json.loads(self.get("/audit/status")[2])["entries"]

    def wrk(self, path, *headers, connections=16):
        command = ["wrk", "-t1", f"-c{connections}", "-H", f"Authorization: Bearer {self.asks}"]
        for header in headers:
            command += ["-H", header]
        return command + [self.url + path]

    def rate(self, connections, path, *headers):
        """Requests a second, and microseconds of processor time of the agent for each."""
        return measure.load(self.process.pid, self.wrk(path, *headers, connections=connections) + [f"-d{SECONDS}s"])

    def fill(self):
        script = self.folder / "fill.lua"
        script.write_text(FILL)
        command = self.wrk("/", connections=64) + ["-d2s", "-s", script]
        while self.entries() < ENTRIES:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def export(self):
        """Seconds that it took, seconds of processor time of the agent, and KiB by which its resident memory grew."""
        pid = self.process.pid
        pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")
        memory, processor = measure.memory_kib(pid), measure.processor_s(pid)
        took = timed(["curl", "-sSf", "-H", f"Authorization: Bearer {self.asks}", self.url + EXPORT])
        return took, measure.processor_s(pid) - processor, measure.memory_kib(pid, "VmHWM") - memory

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)


def timed(command):
    """Seconds that a program took whose output nobody reads."""
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def shell(folder):
    """Seconds that the sqlite3 shell takes for the search."""
    sql = "SELECT count(*) FROM {0} JOIN {0}_common ON number = common WHERE method = 'PUT' AND user = 'bench@example.com';"
    tables = " ".join(sql.format(table) for table in ("change", "read", "denied"))
    return timed(["sqlite3", "-readonly", folder / "nodeaudit-state/ring.sqlite", tables])


def commit_times(agent):
    """Seconds of each call that is answered when its entry is on stable storage: with nothing beside it, and while searches run."""
    times = {"alone": [], "beside": []}
    connection = http.client.HTTPConnection(agent.address, timeout=60)
    headers = {"Authorization": f"Bearer {agent.commits}"}
    for block in range(BLOCKS):
        beside = block % 2 == 1
        search = subprocess.Popen(
            agent.wrk(SEARCH, connections=1) + ["-d60s"], stdout=subprocess.DEVNULL
        ) if beside else None
        if beside:
            time.sleep(0.1)
        for _ in range(COMMITS_PER_BLOCK):
            began = time.monotonic()
            # Has nothing to change, is refused and recorded as a change.
            connection.request("PUT", "/node/hostname", headers=headers)
            response = connection.getresponse()
            response.read()
            times["beside" if beside else "alone"].append(time.monotonic() - began)
            if not 400 <= response.status < 500:
                raise SystemExit(f"PUT /node/hostname: {response.status}")
        if search:
            search.send_signal(signal.SIGINT)
            search.wait()
    return times["alone"], times["beside"]


def quantile(times, part):
    return sorted(times)[int(len(times) * part)] * 1000


def make_journal(agent, folder):
    """A journal of what the agent exports, and how many entries it has."""
    journal = folder / "journal"
    journal.mkdir()
    export = subprocess.Popen(
        ["curl", "-sSf", "-H", f"Authorization: Bearer {agent.asks}", agent.url + "/audit/export?format=journal"],
        stdout=subprocess.PIPE,
    )
    command = [JOURNAL_REMOTE, "--split-mode=none", f"--output={journal}/node.journal", "-"]
    subprocess.run(command, check=True, stdin=export.stdout, stderr=subprocess.DEVNULL)
    if export.wait() != 0:
        raise SystemExit("the export for the journal failed")
    lines = subprocess.run(["journalctl", "-q", "-D", journal, "-o", "cat"], check=True, stdout=subprocess.PIPE).stdout
    return journal, lines.count(b"\n")


@contextlib.contextmanager
def ended(process):
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


@contextlib.contextmanager
def datasette(agent, folder):
    """Datasette over a copy of the ring: what it is asked for the newest 20 reads, without what these have in common with others."""
    copy = folder / "copy.db"
    ring = agent.folder / "nodeaudit-state/ring.sqlite"
    subprocess.run(["sqlite3", "-readonly", ring, f"VACUUM INTO '{copy}'"], check=True)
    command = [DATASETTE, "serve", copy, "--host", "127.0.0.1", "--port", "0"]
    log = folder / "datasette.log"
    with open(log, "w") as output, ended(subprocess.Popen(command, stdout=output, stderr=output)) as process:
        while "running on http://" not in (told := log.read_text()):
            if process.poll() is not None:
                raise SystemExit(told)
            time.sleep(0.1)
        url = told.partition("running on ")[2].split()[0]
        yield process.pid, [f"{url}/copy/read.json?_size=20&_sort_desc=ordinal&_nosuggest=1"]


@contextlib.contextmanager
def gatewayd(journal):
    """systemd-journal-gatewayd over a journal: what it is asked for the newest 20 entries (systemd-journal-gatewayd.service(8))."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # The socket is its fourth descriptor, as a socket unit would have it (sd_listen_fds(3)).
        process = subprocess.Popen(
            ["sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&0', "sh", JOURNAL_GATEWAYD, "-D", journal], stdin=listener
        )
        with ended(process):
            port = listener.getsockname()[1]
            newest = ["-H", "Accept: application/json", "-H", "Range: entries=:-20:20"]
            yield process.pid, newest + [f"http://127.0.0.1:{port}/entries"]


def rate_of_peer(peer):
    """Requests a second, with the fewest connections that an agent is asked over."""
    pid, request = peer
    # They are slow, and serve all callers bit by bit: none may have an answer for some seconds.
    return measure.load(pid, ["wrk", "-t1", f"-c{CONNECTIONS[0]}", f"-d{4 * SECONDS}s", *request])[0]


def round_of(agent, peers, journal, journal_entries):
    row = {}
    for connections in CONNECTIONS:
        at = f"{connections} connections"
        health, health_us = agent.rate(connections, "/health")
        tag = agent.get("/audit")[1].headers["ETag"]
        poll, poll_us = agent.rate(connections, "/audit", f"If-None-Match: {tag}")
        page, page_us = agent.rate(connections, "/audit?limit=20")
        row[f"{at}: requests/s of `/health`"] = health
        row[f"{at}: polls answered 304, rate of that of `/health`"] = poll / health
        row[f"{at}: first pages of 20 entries, rate of that of `/health`"] = page / health
        if connections == CONNECTIONS[0]:
            for name, peer in peers.items():
                row[f"{at}: first pages of 20 entries, rate of {name}'s"] = page / rate_of_peer(peer)
        row[f"{at}: us of processor time for `/health`"] = health_us
        row[f"{at}: us of processor time for a poll answered 304"] = poll_us
        row[f"{at}: us of processor time for a first page"] = page_us
    searches = [(agent.get(SEARCH)[0], shell(agent.folder)) for _ in range(SEARCHES)]
    row["a search that 0.1 % match: time, of the sqlite3 shell's"] = statistics.median(a / b for a, b in searches)
    row["the search, s"] = statistics.median(ours for ours, _ in searches)
    alone, beside = commit_times(agent)
    row["p99 of commits while searches run, of that with none"] = quantile(beside, 0.99) / quantile(alone, 0.99)
    row["p50 of commits while searches run, of that with none"] = quantile(beside, 0.5) / quantile(alone, 0.5)
    row["p99 of commits with no search, ms"] = quantile(alone, 0.99)
    entries = agent.entries()
    took, processor, grown = agent.export()
    row["export as NDJSON, entries/s"] = entries / took
    row["export as NDJSON, entries/s of processor time"] = entries / processor
    row["export as NDJSON: resident memory grows by, KiB"] = grown
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    rate = journal_entries / timed(["journalctl", "-q", "-D", journal, "-o", "json", "--no-pager"])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor_rate = journal_entries / (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    row["`journalctl -o json`, entries/s"] = rate
    row["`journalctl -o json`, entries/s of processor time"] = processor_rate
    row["export: entries/s, of those of `journalctl -o json`"] = entries / took / rate
    row["export: entries/s of processor time, of those of `journalctl -o json`"] = entries / processor / processor_rate
    row["load average"] = os.getloadavg()[0]
    return row


def main():
    binary = pathlib.Path(sys.argv[1] if sys.argv[1:] else ROOT / "target/release/nodeaudit").resolve()
    with tempfile.TemporaryDirectory() as work:
        folder = pathlib.Path(work)
        agent = Agent(binary, folder)
        try:
            agent.fill()
            journal, journal_entries = make_journal(agent, folder)
            print(f"{agent.entries()} entries, {journal_entries} in the journal", file=sys.stderr, flush=True)
            rows = []
            with datasette(agent, folder) as over_copy, gatewayd(journal) as over_journal:
                peers = {"datasette": over_copy, "systemd-journal-gatewayd": over_journal}
                for _ in range(ROUNDS):
                    rows.append(round_of(agent, peers, journal, journal_entries))
                    print({what: round(value, 2) for what, value in rows[-1].items()}, file=sys.stderr, flush=True)
        finally:
            agent.stop()
    print("| what | median | least to most |\n|---|---:|---:|")
    for what in rows[0]:
        values = [row[what] for row in rows]
        show = "{:,.2f}" if max(values) < 100 else "{:,.0f}"
        least, most = show.format(min(values)), show.format(max(values))
        print(f"| {what} | {show.format(statistics.median(values))} | {least} to {most} |")


main()
