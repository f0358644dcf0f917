//! `nodeaudit token`

use std::io::{self, Read as _};
use std::path::PathBuf;
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
use crate::auth::{Grant, MAX_TOKEN_BYTES, Permission, Roles, SigningKey, TokenIssuer, VerifiedToken};
use crate::config::Config;
use crate::reload::verifier;

/// Issue a bearer token, or look into one.
#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Print a new token, signed with this node's secret or a private key
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
    /// For which node or fleet it is (aud): needed where nodes have the public key only
    #[arg(long, value_name = "NAME")]
    audience: Option<String>,
    /// Who issues it (iss)
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// Sign with the private key in FILE (PEM), named after the file, instead of this node's secret
    #[arg(long, value_name = "FILE")]
    signing_key: Option<PathBuf>,
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
        let now_s = now_s()?;
        let grant = Grant {
            subject: self.subject,
            roles: self.role,
            permissions: (!self.permission.is_empty()).then_some(self.permission),
            lifetime_s: self.ttl,
            issuer: self.issuer,
            audience: self.audience,
        };
        let token = match &self.signing_key {
            // For other nodes, of whose roles and rules nothing is known here.
            Some(path) => TokenIssuer::new(&SigningKey::load(path)?).issue(&grant, now_s)?,
            None => issue_for_this_node(&self.options, &config, grant, now_s)?,
        };
        print(&format!("{token}\n"))
    }
}

/// Signs with the node's own secret what the node accepts.
fn issue_for_this_node(
    options: &ConfigOptions,
    config: &Config,
    mut grant: Grant,
    now_s: i64,
) -> Result<String, CliError> {
    let roles = Roles::new(&config.auth.roles);
    if let Some(unknown) = grant.roles.iter().find(|role| !roles.knows(role)) {
        let own = config.auth.roles.keys().map(String::as_str);
        let known: Vec<_> = Roles::BUILT_IN.into_iter().chain(own).collect();
        return Err(CliError::new(Exit::Usage, format!("this node has no role {unknown:?}"))
            .with_hint(format!("it has {}; [auth.roles] adds others", known.join(", "))));
    }
    let Some(key) = options.signing_key(config)? else {
        return Err(CliError::new(Exit::NoInput, "this node has public keys only and can't sign a token")
            .with_hint("issue it where the private key is, with --signing-key"));
    };
    grant.issuer = grant.issuer.or_else(|| config.auth.issuers.first().cloned());
    grant.audience = grant.audience.or_else(|| config.auth.audiences.first().cloned());
    let token = TokenIssuer::new(&key).issue(&grant, now_s)?;
    // What the node would refuse is no use to anyone.
    verifier(config, Some(&key))?.verify(&token, now_s)?;
    Ok(token)
}

impl Verify {
    fn run(self) -> Result<(), CliError> {
        let config = self.options.load(None)?;
        let key = self.options.signing_key(&config)?;
        let token = match self.token.as_str() {
            "-" => read_token()?,
            _ => self.token,
        };
        let verified = verifier(&config, key.as_ref())?.verify(token.trim(), now_s()?)?;
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
