//! The agent's configuration: what can be set, where it is set, and what it is by default.
//!
//! Later sources win: defaults, `--dev`, the configuration file, `conf.d/*.toml` beside it, the environment, flags. Each
//! setting is checked alone against [`Config`], so that a refusal names the file, the line and the key; then all of them
//! together. Plain values leave here; nothing below this module reads a file or a variable to find out how to behave.

mod check;
mod limits;
mod load;
mod render;
mod setting;
mod socket;
mod tls;
mod tree;

pub use limits::{LimitsConfig, ProxyConfig};
pub use load::{ConfigError, ConfigFile, Preset, Sources};
pub use setting::{Origin, Problem, TOKEN_VARIABLE, URL_VARIABLE};
pub use socket::SocketPath;
pub use tls::{ClientAuth, TlsConfig, TlsVersion};
pub use tree::{
    AuditConfig, AuthConfig, ClassConfig, Config, HostConfig, KeyOrigin, LogConfig, LogLevel, Plaintext, ServerConfig,
};
