//! `nodeaudit tls`

use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use nix::unistd::{Gid, Uid, chown};

use super::error::CliError;
use super::exit::Exit;
use super::options::ConfigOptions;
use super::output::print;
use crate::auth::create_private;
use crate::config::Config;
use crate::host::{Changes, Host, Paths};
use crate::tls::{Identity, Subject};

/// Make a key and a certificate.
#[derive(Debug, Subcommand)]
pub(super) enum TlsCommand {
    /// Make this node's own key and a certificate, and print its fingerprint
    Init(Init),
}

#[derive(Debug, Args)]
pub(super) struct Init {
    /// Make a request for a certificate, for an authority to sign, instead of one that the key signs itself
    #[arg(long)]
    request: bool,
    /// A name that callers know this node by, instead of its host name; can be repeated
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    name: Vec<String>,
    /// An address that callers know it by, instead of those of its interfaces; can be repeated
    #[arg(long)]
    address: Vec<IpAddr>,
    /// Days that the certificate is good for
    #[arg(long, default_value_t = 825, value_parser = clap::value_parser!(u16).range(1..=3650), conflicts_with = "request")]
    days: u16,
    /// Replace a key and a certificate that are there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    options: ConfigOptions,
}

impl TlsCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        match self {
            Self::Init(command) => command.run(),
        }
    }
}

impl Init {
    fn run(self) -> Result<(), CliError> {
        let config = self.options.load(None)?;
        let files = Files::new(&config, self.request);
        let subject = self.subject(&config)?;
        let identity =
            if self.request { Identity::request(&subject) } else { Identity::self_signed(&subject, self.days) };
        let identity = identity.map_err(|error| CliError::of(Exit::Usage, &error))?;
        files.write(&identity, self.force)?;
        print(&files.report(&subject, &identity, &config))
    }

    fn subject(&self, config: &Config) -> Result<Subject, CliError> {
        let host = Host::new(Paths::new(&config.host.root), Changes::Refuse);
        let unknown = |error| CliError::of(Exit::OsErr, &error);
        let names = match self.name.as_slice() {
            [] => vec![host.hostname().map_err(unknown)?.hostname],
            names => names.to_vec(),
        };
        let addresses = match self.address.as_slice() {
            // Who gives names alone wants these alone.
            [] if self.name.is_empty() => host.own_addresses().map_err(unknown)?,
            addresses => addresses.to_vec(),
        };
        Ok(Subject { names, addresses })
    }
}

/// Where key and certificate go: where the configuration has them, or into the state folder.
struct Files {
    key: PathBuf,
    certificate: PathBuf,
}

impl Files {
    fn new(config: &Config, is_request: bool) -> Self {
        let (tls, state_dir) = (&config.tls, &config.state_dir);
        let certificate = tls.certificate.clone().unwrap_or_else(|| state_dir.join("tls.crt"));
        Self {
            key: tls.key.clone().unwrap_or_else(|| state_dir.join("tls.key")),
            certificate: if is_request { certificate.with_extension("csr") } else { certificate },
        }
    }

    /// Writes both, or neither where one is there already and is not to be replaced.
    fn write(&self, identity: &Identity, force: bool) -> Result<(), CliError> {
        for path in [&self.key, &self.certificate] {
            if path.symlink_metadata().is_err() {
                continue;
            }
            if !force {
                let message = format!("{} is there already", path.display());
                return Err(CliError::new(Exit::CantCreat, message).with_hint("--force replaces key and certificate"));
            }
            std::fs::remove_file(path).map_err(|error| cant_create(path, &error))?;
        }
        for (path, text) in [(&self.key, &identity.key), (&self.certificate, &identity.certificate)] {
            create_private(path, text.trim_end().as_bytes()).map_err(|error| cant_create(path, &error))?;
            give_to_owner_of_folder(path).map_err(|error| cant_create(path, &error))?;
        }
        Ok(())
    }

    fn report(&self, subject: &Subject, identity: &Identity, config: &Config) -> String {
        let is_request = identity.fingerprint.is_none();
        let whom = subject.names.iter().cloned().chain(subject.addresses.iter().map(IpAddr::to_string));
        let mut text = format!(
            "key          {}\n{}  {}\nfor          {}\n",
            self.key.display(),
            if is_request { "request    " } else { "certificate" },
            self.certificate.display(),
            whom.collect::<Vec<_>>().join(", "),
        );
        if let Some(fingerprint) = &identity.fingerprint {
            text.push_str("SHA-256      ");
            text.push_str(fingerprint);
            text.push('\n');
        }
        if !config.tls.is_on() {
            let certificate = self.certificate.with_extension("crt");
            let (certificate, key) = (certificate.display(), self.key.display());
            let settings = format!("[tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n");
            text.push_str("\nIn the configuration:\n\n");
            text.push_str(&settings);
        }
        text
    }
}

/// What root makes for the agent of another user must be that user's: whose the folder is.
fn give_to_owner_of_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/")).metadata()?;
    let file = path.metadata()?;
    if (file.uid(), file.gid()) != (folder.uid(), folder.gid()) {
        chown(path, Some(Uid::from_raw(folder.uid())), Some(Gid::from_raw(folder.gid())))?;
    }
    Ok(())
}

fn cant_create(path: &Path, error: &io::Error) -> CliError {
    let error = CliError::new(Exit::CantCreat, format!("can't create {}: {error}", path.display()));
    error.with_hint("run it as the agent's user: runuser -u nodeaudit -- nodeaudit tls init")
}
