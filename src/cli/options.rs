//! The options that say which configuration is meant: the same for every command that needs one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use super::error::CliError;
use super::exit::Exit;
use crate::auth::{FileError, KeyError, SigningKey};
use crate::config::{Config, ConfigFile, KeyOrigin, Preset, Sources};

/// The state folder of `--dev`, below the working directory.
const DEV_STATE_DIR: &str = "nodeaudit-state";

/// Where the configuration comes from.
#[derive(Debug, Args)]
pub(super) struct ConfigOptions {
    /// Try the agent out: state in ./nodeaudit-state, loopback only, and no file in /etc is read
    #[arg(long)]
    pub(super) dev: bool,
    /// Read FILE, and conf.d/*.toml beside it, instead of /etc/nodeaudit/nodeaudit.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Keep the ring and the agent's own key in DIR
    // A string, because a path that is not UTF-8 can't be a setting.
    #[arg(long, value_name = "DIR", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    state_dir: Option<String>,
}

impl ConfigOptions {
    /// The configuration, with `listen` as the flag of that name.
    pub(super) fn load(&self, listen: Option<SocketAddr>) -> Result<Config, CliError> {
        Ok(Config::load(&self.sources(listen)?, std::env::vars_os())?)
    }

    /// Where the configuration comes from, at the start and whenever it is read again.
    pub(super) fn sources(&self, listen: Option<SocketAddr>) -> Result<Sources, CliError> {
        let preset = if self.dev { Preset::Dev(absolute(DEV_STATE_DIR)?) } else { Preset::Production };
        let file = match &self.config {
            Some(path) => ConfigFile::Required(path.clone()),
            None if self.dev => ConfigFile::None,
            None => ConfigFile::Optional(ConfigFile::DEFAULT_PATH.into()),
        };
        let state_dir = self.state_dir.as_deref().map(absolute).transpose()?;
        Ok(Sources { preset, file, listen, state_dir })
    }

    /// The signing key of `config`; none where it names public keys only.
    ///
    /// It is made here for `--dev` only: one made by root for a service of another user would be one that the service can't
    /// read.
    pub(super) fn signing_key(&self, config: &Config) -> Result<Option<SigningKey>, CliError> {
        let Some((path, origin)) = config.key_file() else { return Ok(None) };
        let (key, hint) = match origin {
            KeyOrigin::Agent if self.dev => return Ok(Some(SigningKey::load_or_create(&path)?)),
            KeyOrigin::Agent => (SigningKey::load(&path), "the agent makes it when it starts for the first time"),
            KeyOrigin::Operator => (SigningKey::load(&path), "auth.key_file names it, so it is yours to make"),
        };
        key.map(Some).map_err(|error| match error {
            KeyError::File(FileError::Missing { .. }) => CliError::from(error).with_hint(hint),
            _ => error.into(),
        })
    }
}

/// A path of the command line as one that means the same from every folder.
fn absolute(path: &str) -> Result<PathBuf, CliError> {
    let absolute = std::path::absolute(path).ok().filter(|path| path.to_str().is_some());
    absolute.ok_or_else(|| {
        let path = Path::new(path).display();
        CliError::new(Exit::Usage, format!("{path} can't be used from the working directory"))
    })
}
