//! `nodeaudit token`

use std::io::{self, Read as _};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::CliError;
use super::exit::Exit;
use super::options::ConfigOptions;
use super::output::print;
use super::ttl::parse_ttl;
use crate::auth::{Grant, MAX_TOKEN_BYTES, Permission, Roles, TokenIssuer, TokenVerifier, VerifiedToken};

/// Issue a bearer token, or look into one.
#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Print a new token, signed with this node's key
    Issue(Issue),
    /// Print what a token says and allows, or why this node refuses it
    Verify(Verify),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("grant").required(true).multiple(true).args(["role", "permission"]))]
pub(super) struct Issue {
    /// Whom the token is for; entries carry it as their user
    #[arg(long)]
    subject: String,
    /// A role that the token gives; can be repeated
    #[arg(long)]
    role: Vec<String>,
    /// A permission that the token gives instead of what its roles stand for; can be repeated
    #[arg(long, value_parser = permission_parser())]
    permission: Vec<Permission>,
    /// How long the token is accepted: 30s, 15m, 1h, at most 7d
    #[arg(long, value_name = "DURATION", value_parser = parse_ttl)]
    ttl: u32,
    #[command(flatten)]
    options: ConfigOptions,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The token; read from standard input where it is missing or -, which keeps it out of the list of processes
    #[arg(default_value = "-", hide_default_value = true)]
    token: String,
    #[command(flatten)]
    options: ConfigOptions,
}

impl Token {
    pub(super) fn run(self) -> Result<(), CliError> {
        match self {
            Self::Issue(command) => command.run(),
            Self::Verify(command) => command.run(),
        }
    }
}

impl Issue {
    fn run(self) -> Result<(), CliError> {
        let config = self.options.load(None)?;
        let roles = Roles::new(&config.auth.roles);
        if let Some(unknown) = self.role.iter().find(|role| !roles.knows(role)) {
            let known = Roles::BUILT_IN.map(str::to_owned).into_iter().chain(config.auth.roles.into_keys());
            let known: Vec<_> = known.collect();
            return Err(CliError::new(Exit::Usage, format!("this node has no role {unknown:?}"))
                .with_hint(format!("it has {}; [auth.roles] adds others", known.join(", "))));
        }
        let key = self.options.signing_key(&config)?;
        let grant = Grant {
            subject: self.subject,
            roles: self.role,
            permissions: (!self.permission.is_empty()).then_some(self.permission),
            lifetime_s: self.ttl,
        };
        let token = TokenIssuer::new(&key).issue(&grant, now_s()?)?;
        print(&format!("{token}\n"))
    }
}

impl Verify {
    fn run(self) -> Result<(), CliError> {
        let config = self.options.load(None)?;
        let key = self.options.signing_key(&config)?;
        let token = match self.token.as_str() {
            "-" => read_token()?,
            _ => self.token,
        };
        let roles = Roles::new(&config.auth.roles);
        let verified = TokenVerifier::new(&key, roles, config.auth.leeway_s).verify(token.trim(), now_s()?)?;
        let text = serde_json::to_string_pretty(&Report::new(&verified)).expect("a report is JSON");
        print(&format!("{text}\n"))
    }
}

/// What `token verify` prints.
#[derive(Serialize)]
struct Report<'a> {
    subject: &'a str,
    roles: &'a [String],
    /// What the token allows on this node.
    permissions: Vec<Permission>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_id: Option<&'a str>,
    /// RFC 3339; left out where that can't write the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

impl<'a> Report<'a> {
    fn new(verified: &'a VerifiedToken) -> Self {
        let held = Permission::ALL.into_iter();
        let expires_at = OffsetDateTime::from_unix_timestamp(verified.expires_at_s).ok();
        Self {
            subject: &verified.subject,
            roles: &verified.roles,
            permissions: held.filter(|&one| verified.permissions.allows(one)).collect(),
            token_id: verified.token_id.as_deref(),
            expires_at: expires_at.and_then(|time| time.format(&Rfc3339).ok()),
        }
    }
}

fn permission_parser() -> impl TypedValueParser<Value = Permission> {
    PossibleValuesParser::new(Permission::ALL.map(Permission::as_str))
        .map(|name| Permission::parse(&name).expect("one of the possible values"))
}

/// A token from standard input, cut so that one too long is still found to be.
fn read_token() -> Result<String, CliError> {
    let mut token = Vec::new();
    let mut input = io::stdin().take(2 * MAX_TOKEN_BYTES as u64);
    input.read_to_end(&mut token).map_err(|error| CliError::io("can't read standard input", &error))?;
    String::from_utf8(token).map_err(|_| CliError::new(Exit::DataErr, "the token is not text"))
}

/// Seconds from 1970.
fn now_s() -> Result<i64, CliError> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    let now_s = since.and_then(|since| i64::try_from(since.as_secs()).ok());
    now_s.ok_or_else(|| CliError::new(Exit::OsErr, "the clock of this node is before 1970"))
}
