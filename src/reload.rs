//! What can change while the agent runs, and how it does: at SIGHUP.
//!
//! Everything is read and checked first, and nothing is put in force unless all of it is good. A part that can be reloaded has a
//! field in [`Fresh`], where it is made for the start and for every reload alike, and a [`Live`] in [`Reloadable`], where its users
//! find it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use schemars::JsonSchema;
use serde::Serialize;

use crate::api;
use crate::auth::{
    Authenticator, KeyError, Keys, RevokedError, RevokedTokens, Roles, Rules, SigningKey, TimeFloor, TokenError,
    TokenVerifier, self_test,
};
use crate::config::{Config, ConfigError, KeyOrigin};
use crate::host::clock;
use crate::live::Live;
use crate::report;

/// The keys of the configuration that a reload puts in force, each with all that is below it. Every other one needs a restart.
const RELOADED: [&str; 1] = ["auth"];

/// Reads the configuration from where it came from.
pub type ReadConfig = Box<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;

/// Why a part can't be made.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// A key can't be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It is not known which tokens are revoked.
    #[error(transparent)]
    Revoked(#[from] RevokedError),
    /// A token that the agent made for itself is not accepted by it.
    #[error("the agent can't verify its own tokens")]
    SelfTest(#[source] TokenError),
}

/// Why nothing was reloaded.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What it asks for can't be had.
    #[error(transparent)]
    Part(#[from] PartError),
}

/// What is in force, for those who use it.
#[derive(Clone, Debug)]
pub struct Reloadable {
    /// Whose calls are accepted.
    pub authenticator: Live<Authenticator>,
    /// The OpenAPI document.
    pub openapi: Live<String>,
}

/// The same, made and checked, but not in force.
struct Fresh {
    authenticator: Authenticator,
    openapi: String,
}

impl Fresh {
    fn make(config: &Config, time_floor: &Arc<TimeFloor>) -> Result<Self, PartError> {
        self_test().map_err(PartError::SelfTest)?;
        let verifier = verifier(config, signing_key(config)?.as_ref())?;
        let anonymous = config.auth.anonymous_permissions.iter().copied().collect();
        Ok(Self {
            authenticator: Authenticator::new(verifier, anonymous, Arc::clone(time_floor)),
            openapi: api::document(&api::endpoints(), &config.server.base_path, anonymous).to_string(),
        })
    }
}

impl Reloadable {
    /// All parts as `config` says, for the start.
    pub fn new(config: &Config, time_floor: &Arc<TimeFloor>) -> Result<Self, PartError> {
        let Fresh { authenticator, openapi } = Fresh::make(config, time_floor)?;
        Ok(Self { authenticator: Live::new(authenticator), openapi: Live::new(openapi) })
    }

    /// Nothing here can fail: it is all or nothing.
    fn put_in_force(&self, fresh: Fresh) {
        let Fresh { authenticator, openapi } = fresh;
        self.authenticator.set(authenticator);
        self.openapi.set(openapi);
    }
}

/// The key that tokens are signed with on this node: made at the first start unless the operator named a file; none where the node has
/// public keys only.
pub fn signing_key(config: &Config) -> Result<Option<SigningKey>, KeyError> {
    let key = config.key_file().map(|(path, origin)| match origin {
        KeyOrigin::Agent => SigningKey::load_or_create(&path),
        KeyOrigin::Operator => SigningKey::load(&path),
    });
    key.transpose()
}

/// Which tokens are accepted: those signed with `own` or a public key that `config` names, by its rules.
pub fn verifier(config: &Config, own: Option<&SigningKey>) -> Result<TokenVerifier, PartError> {
    let auth = &config.auth;
    let rules = Rules {
        leeway_s: auth.leeway_s,
        max_lifetime_s: (auth.max_lifetime_s > 0).then_some(auth.max_lifetime_s),
        issuers: auth.issuers.clone(),
        audiences: auth.audiences.clone(),
    };
    let revoked = auth.revoked_tokens.as_deref().map(RevokedTokens::load).transpose()?.unwrap_or_default();
    Ok(TokenVerifier::new(Keys::load(own, &auth.keys)?, Roles::new(&auth.roles), rules, revoked))
}

/// What was read, and when.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ReloadStatus {
    /// When the configuration, the keys and the other files in force were read.
    #[schemars(extend("format" = "date-time"))]
    pub read: String,
    /// Reloads since the start that were put in force.
    pub reloads: u64,
    /// Reloads since the start that were refused and changed nothing.
    pub refused: u64,
    /// Why the last reload was refused; absent where it was put in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Settings that have changed in the configuration and need a restart.
    pub restart_needed: BTreeSet<String>,
}

/// Reloads.
pub struct Reloader {
    read_config: ReadConfig,
    /// What the agent was started with: what needs a restart stays as it is here.
    started: Config,
    parts: Reloadable,
    time_floor: Arc<TimeFloor>,
    status: Mutex<ReloadStatus>,
}

impl Reloader {
    /// One that puts new values into `parts`, which were made from `started`.
    pub fn new(read_config: ReadConfig, started: Config, parts: Reloadable, time_floor: Arc<TimeFloor>) -> Self {
        let status = ReloadStatus {
            read: clock::rfc3339(clock::wall_clock_ms()),
            reloads: 0,
            refused: 0,
            failure: None,
            restart_needed: BTreeSet::new(),
        };
        Self { read_config, started, parts, time_floor, status: Mutex::new(status) }
    }

    /// What was read, and when.
    pub fn status(&self) -> ReloadStatus {
        self.lock().clone()
    }

    /// Reads everything again and puts it in force, or changes nothing. Blocks. Says in the log what was done.
    pub fn reload(&self) {
        match self.try_reload() {
            Ok(restart_needed) => {
                log::info!("reloaded: configuration and keys are in force as they are now");
                for key in &restart_needed {
                    log::warn!("{key} has changed; it takes effect when the agent is started again");
                }
                let mut status = self.lock();
                status.read = clock::rfc3339(clock::wall_clock_ms());
                status.reloads += 1;
                (status.failure, status.restart_needed) = (None, restart_needed);
            }
            Err(error) => {
                let why = report::chain(&error);
                log::error!("not reloaded, everything stays as it was: {why}");
                let mut status = self.lock();
                status.refused += 1;
                status.failure = Some(why);
            }
        }
    }

    fn try_reload(&self) -> Result<BTreeSet<String>, ReloadError> {
        let read = (self.read_config)()?;
        let restart_needed = self.started.differences(&read).into_iter().filter(|key| !is_reloaded(key)).collect();
        let config = Config { auth: read.auth, ..self.started.clone() };
        self.parts.put_in_force(Fresh::make(&config, &self.time_floor)?);
        Ok(restart_needed)
    }

    fn lock(&self) -> MutexGuard<'_, ReloadStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_reloaded(key: &str) -> bool {
    RELOADED.iter().any(|part| key.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_a_reloaded_key_is_reloaded() {
        assert!(is_reloaded("auth") && is_reloaded("auth.roles.operator"));
        assert!(!is_reloaded("authority.x") && !is_reloaded("server.listen"));
    }
}
