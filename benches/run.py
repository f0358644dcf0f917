"""Requests a second and latency of one small call, for the agent and for what one could take instead.

Every round runs every case once, in turn, because one program drifts by a fifth between minutes. Each case has to show that it
left a line for every request that it answered. Writes results.json, results.md and results.svg into the folder given.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import socket
import sqlite3
import ssl
import statistics
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
RELEASE = ROOT / "target/release"
PATH = "/node/hostname"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Peer:
    """A program that answers PATH: started in a folder of its own, asked for its URL, its lines counted."""

    name: str
    headers: dict = {}
    # What its certificate is checked with.
    context: ssl.SSLContext | None = None

    def command(self, folder):
        """What to run; a peer that can't choose a port itself sets `self.url`."""
        raise NotImplementedError

    def lines(self):
        """How many calls it has recorded, or None where it records none."""
        raise NotImplementedError

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=OUT))
        self.url = None
        command, environment = self.command(self.folder)
        self.log = open(self.folder / "stderr", "w")
        self.process = subprocess.Popen(
            command, cwd=self.folder, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        while self.url is None:
            line = self.process.stdout.readline()
            if not line:
                raise SystemExit(f"{self.name} did not start: {(self.folder / 'stderr').read_text()}")
            self.url = next((word for word in line.split() if word.startswith(("http://", "https://"))), None)
            self.url = self.url and "/".join(self.url.split("/")[:3])
        self.started()
        return self

    def started(self):
        deadline = time.monotonic() + 20
        while True:
            try:
                return self.get(PATH)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def get(self, path):
        request = urllib.request.Request(self.url + path, headers=self.headers)
        with urllib.request.urlopen(request, timeout=10, context=self.context) as response:
            return response.read()

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)
        self.log.close()
        shutil.rmtree(self.folder)


def issue_token(folder):
    command = [RELEASE / "nodeaudit", "token", "issue", "--dev", "--subject", "bench@example.com", "--role", "admin"]
    command += ["--ttl", "2h"]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


class Agent(Peer):
    def __init__(self, name, durability):
        self.name, self.durability = name, durability

    def command(self, folder):
        environment = {
            "NODEAUDIT_AUDIT__READ__DURABILITY": self.durability,
            "NODEAUDIT_LIMITS__PEER_PER_S": "0",
            "NODEAUDIT_LIMITS__ACTOR_PER_S": "0",
        }
        return [RELEASE / "nodeaudit", "serve", "--dev", "--listen", "127.0.0.1:0"], environment

    def started(self):
        self.headers = {"Authorization": f"Bearer {issue_token(self.folder)}"}
        super().started()

    def lines(self):
        # The newest number, because the ring may have evicted what it stored before. The call that asks is not in it yet.
        return json.loads(self.get("/audit/status"))["last_seq"]


def make_certificate(folder):
    """A certificate for 127.0.0.1 (ECDSA, P-256) and its key."""
    init = [RELEASE / "nodeaudit", "tls", "init", "--dev", "--name", "localhost", "--address", "127.0.0.1"]
    subprocess.run(init, cwd=folder, check=True, capture_output=True)
    ((certificate,), (key,)) = folder.rglob("tls.crt"), folder.rglob("tls.key")
    return certificate, key


class AgentOverTls(Agent):
    """The same with a certificate of its own."""

    def command(self, folder):
        command, environment = super().command(folder)
        certificate, key = make_certificate(folder)
        self.context = ssl.create_default_context(cafile=certificate)
        return command, environment | {"NODEAUDIT_TLS__CERTIFICATE": str(certificate), "NODEAUDIT_TLS__KEY": str(key)}


class Unaudited(Peer):
    """The token check and the handler on plain actix-web (examples/unaudited.rs)."""

    name = "auditing off"

    def command(self, folder):
        self.headers = {"Authorization": f"Bearer {issue_token(folder)}"}
        (key,) = folder.rglob("*.key")
        return [RELEASE / "examples/unaudited", key], {}

    def lines(self):
        return None


class Nginx(Peer):
    def __init__(self, name, access_log, is_over_tls=False):
        self.name, self.access_log, self.is_over_tls = name, access_log, is_over_tls

    def command(self, folder):
        port = free_port()
        scheme, listens, tls = "http", "", ""
        if self.is_over_tls:
            certificate, key = make_certificate(folder)
            self.context = ssl.create_default_context(cafile=certificate)
            scheme, listens, tls = "https", " ssl", f"ssl_certificate {certificate}; ssl_certificate_key {key};"
        self.url = f"{scheme}://127.0.0.1:{port}"
        (folder / "nginx.conf").write_text(
            f"""daemon off; worker_processes 2; pid nginx.pid; error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  log_format json escape=json '{{"timestamp":"$time_iso8601","user":"$remote_user","method":"$request_method",'
    '"path":"$uri","source_ip":"$remote_addr","response_code":$status,"duration_s":$request_time}}';
  access_log access.json json{self.access_log};
  keepalive_requests 100000000;
  client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
  server {{
    listen 127.0.0.1:{port}{listens} backlog=1024;
    {tls}
    location = {PATH} {{ default_type application/json; return 200 '{{"hostname":"{socket.gethostname()}"}}'; }}
  }}
}}
"""
        )
        return ["nginx", "-p", folder, "-c", folder / "nginx.conf"], {}

    def lines(self):
        return count_lines(self.folder / "access.json")


class Caddy(Peer):
    name = "Caddy, JSON log"

    def command(self, folder):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        (folder / "Caddyfile").write_text(
            f"""{{
  admin off
}}
http://127.0.0.1:{port} {{
  log {{
    output file {folder}/access.json {{
      roll_disabled
    }}
    format json
  }}
  header {PATH} Content-Type application/json
  respond {PATH} `{{"hostname":"{socket.gethostname()}"}}` 200
}}
"""
        )
        return ["caddy", "run", "--config", folder / "Caddyfile"], {"HOME": str(folder)}

    def lines(self):
        return count_lines(self.folder / "access.json")


class Inserts(Peer):
    """A framework with an SQLite insert per request."""

    def __init__(self, name, command, synchronous):
        self.name, self.program, self.synchronous = f"{name}, {synchronous}", command, synchronous

    def command(self, folder):
        return [*self.program, folder / "audit.db", self.synchronous], {"NODE_PATH": str(OUT / "node_modules")}

    def lines(self):
        with sqlite3.connect(self.folder / "audit.db") as database:
            return database.execute("SELECT count(*) FROM audit").fetchone()[0]


def count_lines(file):
    with open(file, "rb") as lines:
        return sum(1 for _ in lines)


def peers():
    express = ["node", ROOT / "benches/peers/express.js"]
    fastapi = [OUT / "venv/bin/python", ROOT / "benches/peers/fastapi_sqlite.py"]
    return [
        Unaudited(),
        Agent("relaxed", "relaxed"),
        Agent("strict", "strict"),
        AgentOverTls("relaxed over TLS", "relaxed"),
        Nginx("nginx, JSON log, unbuffered", ""),
        Nginx("nginx, JSON log, over TLS", "", is_over_tls=True),
        Nginx("nginx, JSON log, buffered", " buffer=64k flush=2s"),
        Caddy(),
        *(Inserts("Express + better-sqlite3", express, synchronous) for synchronous in ("FULL", "NORMAL")),
        *(Inserts("FastAPI + sqlite3", fastapi, synchronous) for synchronous in ("FULL", "NORMAL")),
    ]


def load(peer, connections, seconds):
    """One run of wrk. Fails where an answer is no 2xx, or where fewer lines came than were answered."""
    before = peer.lines()
    headers = [part for name, value in peer.headers.items() for part in ("-H", f"{name}: {value}")]
    # An insert per request has a caller wait for seconds now and then: that is slow, and no failure.
    command = ["wrk", "-t1", "--timeout", "30s", f"-c{connections}", f"-d{seconds}s", "-s", ROOT / "benches/wrk.lua"]
    command += [*headers, peer.url + PATH]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (result,) = (line.split()[1:] for line in output.splitlines() if line.startswith("RESULT"))
    requests, duration_us, p50_us, p99_us, failures = map(int, result)
    if failures or not requests:
        raise SystemExit(f"{peer.name}: {requests} answers, {failures} failures")
    if before is not None:
        # A buffered log may take its time.
        deadline = time.monotonic() + 10
        while (left := peer.lines() - before) < requests:
            if time.monotonic() > deadline:
                raise SystemExit(f"{peer.name}: {requests} answers left {left} lines")
            time.sleep(0.2)
    return {"per_s": requests * 1e6 / duration_us, "p50_us": p50_us, "p99_us": p99_us}


def floor(seconds):
    """What the disk itself allows: appends of 256 bytes, each followed by fdatasync, one after the other."""
    with tempfile.NamedTemporaryFile(dir=OUT) as file:
        took_us, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            start = time.monotonic()
            os.write(file.fileno(), b"x" * 256)
            os.fdatasync(file.fileno())
            took_us.append((time.monotonic() - start) * 1e6)
    took_us.sort()
    p50, p99 = (took_us[int(len(took_us) * share)] for share in (0.5, 0.99))
    return {"per_s": len(took_us) / seconds, "p50_us": p50, "p99_us": p99}


def summary(rounds):
    def of(key):
        values = [round_[key] for round_ in rounds]
        return {"median": statistics.median(values), "min": min(values), "max": max(values)}

    return {key: of(key) for key in rounds[0]} | {"rounds": rounds}


RATIOS = [  # what, over what, connections, at least; none: to compare with
    ("relaxed", "auditing off", 64, 0.88),
    ("relaxed", "auditing off", 256, 0.93),
    ("strict", "auditing off", 64, 0.60),
    ("strict", "auditing off", 256, 0.68),
    ("relaxed over TLS", "relaxed", 64, 0.8),
    # wrk's part of TLS is in both.
    ("nginx, JSON log, over TLS", "nginx, JSON log, unbuffered", 64, None),
    ("relaxed", "nginx, JSON log, unbuffered", 64, 1.0),
    ("strict", "Caddy, JSON log", 64, 2.0),
    ("strict", "Express + better-sqlite3, FULL", 64, 14),
    ("strict", "Express + better-sqlite3, FULL", 1, 1.3),
    ("strict", "FastAPI + sqlite3, FULL", 64, 16),
]


def ratios(runs):
    """The median of the ratios within each round: what drifts from round to round cancels out."""
    for what, over, connections, aim in RATIOS:
        if (what, connections) not in runs or (over, connections) not in runs:
            continue
        pairs = zip(runs[what, connections], runs[over, connections])
        values = [one["per_s"] / other["per_s"] for one, other in pairs]
        yield {
            "what": what, "over": over, "connections": connections, "aim": aim,
            "median": statistics.median(values), "min": min(values), "max": max(values),
        }
    if not {("strict", 1), ("auditing off", 1)} <= runs.keys():
        return
    added = [
        (one["p50_us"] - off["p50_us"]) / raw["p50_us"]
        for one, off, raw in zip(runs["strict", 1], runs["auditing off", 1], runs[FLOOR, 1])
    ]
    yield {
        "what": "p50 that strict adds", "over": "p50 of " + FLOOR, "connections": 1, "aim": -1.6,
        "median": statistics.median(added), "min": min(added), "max": max(added),
    }


FLOOR = "append of 256 bytes + fdatasync"


def table(results):
    yield "| what | connections | requests/s | least to most | p50 us | p99 us |"
    yield "|---|---:|---:|---:|---:|---:|"
    for row in results["cases"]:
        per_s = row["per_s"]
        yield (
            f"| {row['what']} | {row['connections']} | {per_s['median']:,.0f} | {per_s['min']:,.0f} to {per_s['max']:,.0f}"
            f" | {row['p50_us']['median']:,.0f} | {row['p99_us']['median']:,.0f} |"
        )
    yield ""
    yield "| ratio within a round | connections | median | least to most | aim |"
    yield "|---|---:|---:|---:|---:|"
    for row in results["ratios"]:
        aim = row["aim"]
        aim = "" if aim is None else f"at least {aim}" if aim > 0 else f"at most {-aim}"
        spread = f"{row['min']:.2f} to {row['max']:.2f}"
        yield f"| {row['what']} / {row['over']} | {row['connections']} | {row['median']:.2f} | {spread} | {aim} |"


def plot(results):
    """Requests a second with 64 connections: a bar for the median, a line from the least to the most."""
    rows = [row for row in results["cases"] if row["connections"] == 64]
    scale = 420 / max(row["per_s"]["max"] for row in rows)
    yield f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{40 + 26 * len(rows)}" font-family="sans-serif" font-size="12">'
    yield '<rect width="100%" height="100%" fill="white"/><text x="8" y="20">requests/s with 64 connections: median, least to most</text>'
    for index, row in enumerate(rows):
        y, per_s = 34 + 26 * index, row["per_s"]
        low, high = (220 + per_s[end] * scale for end in ("min", "max"))
        colour = "#2a6f97" if row["what"] in ("relaxed", "strict", "auditing off") else "#a9a9a9"
        yield f'<text x="212" y="{y + 13}" text-anchor="end">{row["what"]}</text>'
        yield f'<rect x="220" y="{y}" width="{per_s["median"] * scale:.1f}" height="18" fill="{colour}"/>'
        yield f'<path d="M{low:.1f} {y + 9}H{high:.1f}" stroke="black"/>'
        yield f'<text x="{high + 6:.1f}" y="{y + 13}">{per_s["median"]:,.0f}</text>'
    yield "</svg>"


def main():
    runs = {}
    for number in range(ARGUMENTS.rounds):
        runs.setdefault((FLOOR, 1), []).append(floor(ARGUMENTS.seconds))
        for peer in (peer for peer in peers() if not ARGUMENTS.only or peer.name in ARGUMENTS.only):
            with peer:
                for connections in (1, 64, 256):
                    runs.setdefault((peer.name, connections), []).append(load(peer, connections, ARGUMENTS.seconds))
        print(f"round {number + 1} of {ARGUMENTS.rounds}", flush=True)
    cases = [{"what": name, "connections": connections} | summary(rounds) for (name, connections), rounds in runs.items()]
    cases.sort(key=lambda row: row["connections"])
    results = {"seconds_each": ARGUMENTS.seconds, "load_average": os.getloadavg(), "cases": cases, "ratios": list(ratios(runs))}
    text = "\n".join(table(results)) + "\n"
    (OUT / "results.json").write_text(json.dumps(results, indent=1))
    (OUT / "results.md").write_text(text)
    (OUT / "results.svg").write_text("\n".join(plot(results)) + "\n")
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these alone")
    ARGUMENTS = parser.parse_args()
    OUT = ARGUMENTS.out.resolve()
    main()
