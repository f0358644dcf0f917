"""FastAPI with sqlite3: an insert per request, durable before the answer when the last argument is FULL."""

import datetime
import socket
import sqlite3
import sys
import time

import fastapi
import uvicorn

database, synchronous = sys.argv[1:]
db = sqlite3.connect(database, isolation_level=None)
db.execute("PRAGMA journal_mode = WAL")
db.execute(f"PRAGMA synchronous = {synchronous}")
db.execute(
    "CREATE TABLE IF NOT EXISTS audit (id INTEGER PRIMARY KEY, timestamp TEXT, user TEXT, method TEXT, path TEXT,"
    " source_ip TEXT, response_code INTEGER, duration_ms INTEGER)"
)
app = fastapi.FastAPI()
name = socket.gethostname()


@app.middleware("http")
async def audit(request, call_next):
    start = time.monotonic()
    response = await call_next(request)
    db.execute(
        "INSERT INTO audit (timestamp, user, method, path, source_ip, response_code, duration_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (datetime.datetime.now(datetime.timezone.utc).isoformat(), "bench", request.method, request.url.path,
         request.client.host, response.status_code, int((time.monotonic() - start) * 1000)),
    )
    return response


@app.get("/node/hostname")
async def hostname():
    return {"hostname": name}


# The protocol is named because asyncio turns Nagle's algorithm off only then; with it every answer waits 40 ms.
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
listener.bind(("127.0.0.1", 0))
listener.listen(1024)
print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False)).run(sockets=[listener])
