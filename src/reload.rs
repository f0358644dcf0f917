//! What can change while the agent runs, and how it does: at SIGHUP.
//!
//! Everything is read and checked first, and nothing is put in force unless all of it is good. A part that can be reloaded has a
//! field in `Fresh`, where it is made for the start and for every reload alike, and a [`Live`] in [`Reloadable`], where its users
//! find it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;

use crate::auth::{
    Admission, Authenticator, CertificateRoles, KeyError, Keys, Rates, RevokedError, RevokedTokens, Roles, Rules,
    SigningKey, TimeFloor, TokenError, TokenVerifier, TrustedProxies, self_test,
};
use crate::config::{Config, ConfigError, KeyOrigin, LimitsConfig};
use crate::host::clock;
use crate::live::Live;
use crate::report;
use crate::tls::{Tls, TlsError};

/// The keys of the configuration that a reload puts in force, each with all that is below it. Every other one needs a restart.
const RELOADED: [&str; 4] = ["auth", "limits", "proxy", "tls"];

/// Those below them that do all the same, where TLS begins or ends with them.
const TLS_ON: [&str; 2] = ["tls.certificate", "tls.key"];

/// Reads the configuration from where it came from.
pub type ReadConfig = Box<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;

/// Writes the OpenAPI document of an agent with that configuration.
pub type Describe = fn(&Config) -> String;

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
    /// Certificates or their key can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
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
    /// How many of them are let in.
    pub admission: Live<Admission>,
    /// What the agent proves to callers; none without TLS.
    pub tls: Option<Live<Tls>>,
    /// The OpenAPI document.
    pub openapi: Live<String>,
}

/// The same, made and checked, but not in force.
struct Fresh {
    authenticator: Authenticator,
    admission: Admission,
    tls: Option<Tls>,
    openapi: String,
}

impl Fresh {
    fn make(config: &Config, describe: Describe, time_floor: &Arc<TimeFloor>) -> Result<Self, PartError> {
        self_test().map_err(PartError::SelfTest)?;
        let verifier = verifier(config, signing_key(config)?.as_ref())?;
        let certificates = CertificateRoles::new(config.tls.roles.clone(), Roles::new(&config.auth.roles));
        let anonymous = config.auth.anonymous_permissions.iter().copied().collect();
        Ok(Self {
            authenticator: Authenticator::new(verifier, anonymous, certificates, Arc::clone(time_floor)),
            admission: Admission::new(
                TrustedProxies::new(config.proxy.trusted.clone(), config.proxy.header),
                rates(&config.limits),
            ),
            tls: Tls::load(&config.tls)?,
            openapi: describe(config),
        })
    }
}

impl Reloadable {
    /// All parts as `config` says, for the start.
    pub fn new(config: &Config, describe: Describe, time_floor: &Arc<TimeFloor>) -> Result<Self, PartError> {
        let Fresh { authenticator, admission, tls, openapi } = Fresh::make(config, describe, time_floor)?;
        Ok(Self {
            authenticator: Live::new(authenticator),
            admission: Live::new(admission),
            tls: tls.map(Live::new),
            openapi: Live::new(openapi),
        })
    }

    /// Nothing here can fail: it is all or nothing.
    fn put_in_force(&self, fresh: Fresh) {
        let Fresh { authenticator, admission, tls, openapi } = fresh;
        self.authenticator.set(authenticator);
        self.admission.set(admission);
        // Open connections go on with what they have agreed on.
        if let (Some(live), Some(tls)) = (&self.tls, tls) {
            live.set(tls);
        }
        self.openapi.set(openapi);
    }
}

fn rates(limits: &LimitsConfig) -> Rates {
    Rates {
        peer_per_s: (limits.peer_per_s, limits.peer_burst),
        actor_per_s: (limits.actor_per_s, limits.actor_burst),
        failures_per_min: (limits.failures_per_min, limits.failures_burst),
        tracked: limits.tracked,
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
    describe: Describe,
    /// What the agent was started with: what needs a restart stays as it is here.
    started: Config,
    parts: Reloadable,
    time_floor: Arc<TimeFloor>,
    status: Mutex<ReloadStatus>,
    /// Told of each reload that was put in force.
    done: watch::Sender<()>,
}

impl Reloader {
    /// One that puts new values into `parts`, which were made from `started`.
    pub fn new(
        read_config: ReadConfig,
        describe: Describe,
        started: Config,
        parts: Reloadable,
        time_floor: Arc<TimeFloor>,
    ) -> Self {
        let status = ReloadStatus {
            read: clock::rfc3339(clock::wall_clock_ms()),
            reloads: 0,
            refused: 0,
            failure: None,
            restart_needed: BTreeSet::new(),
        };
        let done = watch::Sender::new(());
        Self { read_config, describe, started, parts, time_floor, status: Mutex::new(status), done }
    }

    /// What was read, and when.
    pub fn status(&self) -> ReloadStatus {
        self.lock().clone()
    }

    /// Told of each reload that was put in force.
    pub fn done(&self) -> watch::Receiver<()> {
        self.done.subscribe()
    }

    /// Reads everything again and puts it in force, or changes nothing. Blocks. Says in the log what was done.
    pub fn reload(&self) {
        match self.try_reload() {
            Ok(restart_needed) => {
                log::info!("reloaded: configuration, keys and certificates are in force as they are now");
                for key in &restart_needed {
                    log::warn!("{key} has changed; it takes effect when the agent is started again");
                }
                let mut status = self.lock();
                status.read = clock::rfc3339(clock::wall_clock_ms());
                status.reloads += 1;
                (status.failure, status.restart_needed) = (None, restart_needed);
                self.done.send_replace(());
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
        // A caller in the middle of a fleet's roll-out must not meet a door that has changed under him: that takes a restart.
        let switched = read.tls.is_on() != self.started.tls.is_on();
        let needs_restart = |key: &String| !is_reloaded(key) || switched && TLS_ON.contains(&key.as_str());
        let restart_needed = self.started.differences(&read).into_iter().filter(needs_restart).collect();
        let tls = if switched { self.started.tls.clone() } else { read.tls };
        let Config { auth, limits, proxy, .. } = read;
        let config = Config { tls, proxy, limits, auth, ..self.started.clone() };
        self.parts.put_in_force(Fresh::make(&config, self.describe, &self.time_floor)?);
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
