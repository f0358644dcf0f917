//! nodeaudit: one binary that serves a Linux node's management API and records every call in a local ring.
//!
//! The API reads the node and changes it (`/node/hostname` and its kin). Each call becomes an *entry* in the *ring*, an
//! SQLite file of bounded size on the node, and `GET /audit` reads the ring from the same process.
//!
//! # The way of a request
//!
//! ```text
//! listener -> server -> authenticate -> audit -> authorize -> api handler -> host        (request)
//!                                         |
//!                       entry -> writer (one thread, group commit) -> ring (SQLite) -> reader -> api/audit
//! ```
//!
//! 1. [`server`] builds everything once. `listener` binds the address, runs the workers and watches each connection: a request
//!    that never becomes one, malformed or late, is recorded there.
//! 2. [`auth::authenticate`] names the [`auth::Actor`] of the request. It never refuses.
//! 3. [`audit::audit`] opens the entry, has [`auth::authorize`] decide, and stores the intent of a change. It attaches what
//!    was decided as an [`audit::Verdict`], so that a refusal is recorded like everything else.
//! 4. [`api`] answers by the verdict: with a refusal, or through the handler of the [`api::endpoint::Endpoint`] that method
//!    and path name. A handler calls one function of [`host`] or of the [`audit::Reader`].
//! 5. `audit` completes the entry and hands it to the [`audit::Writer`]. Where the class is strict, the response waits until
//!    the entry is on stable storage. Where the handler panics, or its future is dropped, the entry is completed all the same.
//!
//! # What owns what
//!
//! | module | owns | does not know |
//! |---|---|---|
//! | [`cli`] | commands, exit codes, what is printed | how a call is served |
//! | [`fleet`] | the logs of many nodes in files: their list, entries, cursors | what is printed |
//! | [`client`] | calls to agents: where they are, whom the caller trusts, HTTP/1.1 as he speaks it | what becomes of an answer |
//! | [`config`] | settings, their sources, defaults and limits | who uses a setting |
//! | `listener` | the socket, the connections, HTTP/1.1 on them | operations |
//! | [`tls`] | certificates and their keys, handshakes | HTTP |
//! | [`server`] | start, stop, and the one place where all parts meet | what any part does |
//! | [`reload`] | what can change while the agent runs, and SIGHUP's way there | what any part does |
//! | `lifecycle` | what the agent obeys and tells while it serves: signals, the service manager | what any part does |
//! | `vitals` | whether workers and writer move on | who asks |
//! | [`systemd`] | the service manager's protocol: readiness, watchdog, passed sockets | any part of the agent |
//! | [`auth`] | who calls and what they may do: keys, tokens, roles, permissions | the ring, endpoints |
//! | [`audit`] | entries, classes, the ring, its writer and reader | endpoints |
//! | [`api`] | endpoints, routes, status codes, `/openapi.json` | SQL, permission checks |
//! | [`host`] | the node's readings and changes | HTTP, audit |
//! | [`operation`] | method, path, ID and permission as plain data | all of the above but the permissions |
//! | `blocking` | work that may block: off the workers, with a deadline | what the work is |
//! | `percent` | texts as they stand in a query | everything else |
//! | `hexadecimal` | bytes as digits | everything else |
//! | `decimal` | numbers as digits and nothing else | everything else |
//! | `der` | elements of DER, which keys and certificates are written in | what they are |
//! | [`network`] | networks of IP addresses | everything else |
//! | [`live`] | a value that is replaced while it is in use | everything else |
//! | [`report`] | an error and its sources as one line | everything else |
//!
//! How to run it is in `README.md` and `docs/operate.md`, how to add an endpoint in `CONTRIBUTING.md`.

// In the order of a request; the blank lines keep rustfmt from sorting them.
pub mod cli;

pub mod fleet;

pub mod client;

pub mod config;

mod listener;

pub mod tls;

pub mod server;

pub mod reload;

mod lifecycle;

mod signals;

mod vitals;

pub mod systemd;

pub mod auth;

pub mod audit;

pub mod api;

pub mod host;

pub mod operation;

mod blocking;

mod decimal;

mod hexadecimal;

mod der;

mod percent;

pub mod network;

pub mod live;

pub mod report;
