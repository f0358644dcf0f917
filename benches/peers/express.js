// Express with better-sqlite3: an insert per request, durable before the answer when SYNCHRONOUS is FULL.
const express = require("express");
const db = new (require("better-sqlite3"))(process.argv[2]);
db.pragma("journal_mode = WAL");
db.pragma(`synchronous = ${process.argv[3]}`);
db.exec("CREATE TABLE IF NOT EXISTS audit (id INTEGER PRIMARY KEY, timestamp TEXT, user TEXT, method TEXT, path TEXT, source_ip TEXT, response_code INTEGER, duration_ms INTEGER)");
const insert = db.prepare("INSERT INTO audit (timestamp, user, method, path, source_ip, response_code, duration_ms) VALUES (?, ?, ?, ?, ?, ?, ?)");
const app = express();
app.use((request, response, next) => {
  const start = Date.now();
  const json = response.json.bind(response);
  response.json = (body) => {
    insert.run(new Date(start).toISOString(), "bench", request.method, request.path, request.ip, 200, Date.now() - start);
    return json(body);
  };
  next();
});
const name = require("os").hostname();
app.get("/node/hostname", (_, response) => response.json({ hostname: name }));
const server = app.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
