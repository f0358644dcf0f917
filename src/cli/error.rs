//! Errors as the command line tells them: once, with all causes, and with a hint where there is one.

use std::error::Error;
use std::fmt::Write as _;
use std::io;

use super::exit::Exit;
use crate::audit::ring::RingError;
use crate::auth::{FileError, KeyError, RevokedError, TokenError};
use crate::client::{ClientError, SecretError};
use crate::config::ConfigError;
use crate::fleet::{NodesError, PullError, StoreError};
use crate::reload::PartError;
use crate::report;
use crate::server::ServerError;
use crate::tls::TlsError;

/// Why a command failed.
#[derive(Debug)]
pub struct CliError {
    exit: Exit,
    /// One problem a line, each with its causes.
    message: String,
    hint: Option<String>,
}

impl CliError {
    /// An error without a cause.
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// An error with its causes.
    pub(super) fn of(exit: Exit, error: &dyn Error) -> Self {
        Self::new(exit, report::chain(error))
    }

    /// A failure to read or write what `act` names.
    pub(super) fn io(act: &str, error: &io::Error) -> Self {
        Self::new(Exit::IoErr, format!("{act}: {}", report::chain(error)))
    }

    /// Says what could be done.
    #[must_use]
    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What the process ends with.
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// The lines for standard error, each with the program's name before it.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for line in self.message.lines() {
            writeln!(text, "nodeaudit: {line}").expect("writing to a String can't fail");
        }
        if let Some(hint) = &self.hint {
            writeln!(text, "nodeaudit: hint: {hint}").expect("writing to a String can't fail");
        }
        text
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        let exit = match &error {
            ConfigError::Read { .. } => Exit::NoInput,
            ConfigError::Refused(_) => Exit::Config,
        };
        Self::of(exit, &error)
    }
}

impl From<KeyError> for CliError {
    fn from(error: KeyError) -> Self {
        let (exit, hint) = match &error {
            KeyError::File(file) => of_file(file),
            KeyError::Unusable { .. }
            | KeyError::SameKid { .. }
            | KeyError::Nameless { .. }
            | KeyError::TooMany { .. }
            | KeyError::NoKeys { .. } => (Exit::DataErr, None),
            KeyError::Exists { .. } | KeyError::Create { .. } => (Exit::CantCreat, None),
            KeyError::Random(_) => (Exit::OsErr, None),
        };
        Self { hint, ..Self::of(exit, &error) }
    }
}

impl From<RevokedError> for CliError {
    fn from(error: RevokedError) -> Self {
        let (exit, hint) = match &error {
            RevokedError::File(file) => of_file(file),
            RevokedError::Encoding { .. } | RevokedError::Line { .. } => (Exit::DataErr, None),
        };
        Self { hint, ..Self::of(exit, &error) }
    }
}

impl CliError {
    /// An error whose cause is such a file.
    fn of_guarded(file: &FileError, error: &dyn Error) -> Self {
        let (exit, hint) = of_file(file);
        Self { hint, ..Self::of(exit, error) }
    }
}

/// How a command ends that can't use a file on which it depends who gets in, and what could be done.
fn of_file(error: &FileError) -> (Exit, Option<String>) {
    match error {
        FileError::Exposed { path, .. } => (Exit::NoPerm, Some(format!("chmod 600 {}", path.display()))),
        FileError::Writable { path, .. } => (Exit::NoPerm, Some(format!("chmod go-w {}", path.display()))),
        FileError::Foreign { path, .. } => (Exit::NoPerm, Some(format!("chown root {}", path.display()))),
        FileError::Missing { .. } | FileError::Read { .. } => (Exit::NoInput, None),
        FileError::NotRegular { .. } | FileError::TooLarge { .. } => (Exit::DataErr, None),
    }
}

impl From<TokenError> for CliError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Issue(error) => error.into(),
            TokenError::SelfTest => Self::of(Exit::Software, &error),
            TokenError::TooLong
            | TokenError::Malformed
            | TokenError::Algorithm
            | TokenError::UnknownKey
            | TokenError::NoKeyNamed
            | TokenError::Type
            | TokenError::ClockBehind
            | TokenError::LivesTooLong { .. }
            | TokenError::Issuer
            | TokenError::Audience
            | TokenError::Revoked
            | TokenError::Signature
            | TokenError::Critical
            | TokenError::Claim { .. }
            | TokenError::Expired { .. }
            | TokenError::NotYetValid { .. } => Self::of(Exit::DataErr, &error),
        }
    }
}

impl From<PartError> for CliError {
    fn from(error: PartError) -> Self {
        match error {
            PartError::Key(error) => error.into(),
            PartError::Revoked(error) => error.into(),
            PartError::Tls(TlsError::File(ref file)) => Self::of_guarded(file, &error),
            PartError::Tls(
                TlsError::Pem { .. }
                | TlsError::Key { .. }
                | TlsError::LongChain { .. }
                | TlsError::Authority { .. }
                | TlsError::Verifier(_)
                | TlsError::Pair { .. },
            ) => Self::of(Exit::DataErr, &error),
            PartError::SelfTest(_) => Self::of(Exit::Software, &error),
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::Unreachable { .. } | ClientError::Late { .. } | ClientError::Broken { .. } => {
                Exit::Unavailable
            }
            ClientError::Tls { .. } | ClientError::Foreign { .. } | ClientError::TooLarge { .. } => Exit::Protocol,
            ClientError::Refused { problem, .. } => match problem.status {
                400 => Exit::Usage,
                401 | 403 => Exit::NoPerm,
                404 => Exit::NoInput,
                408 | 429 | 503 => Exit::TempFail,
                500..=599 => Exit::Unavailable,
                _ => Exit::Protocol,
            },
        };
        Self::of(exit, &error)
    }
}

impl From<SecretError> for CliError {
    fn from(error: SecretError) -> Self {
        match &error {
            SecretError::File(file) => Self::of_guarded(file, &error),
            SecretError::Form(_) => Self::of(Exit::DataErr, &error),
        }
    }
}

impl From<NodesError> for CliError {
    fn from(error: NodesError) -> Self {
        match &error {
            NodesError::File(file) => Self::of_guarded(file, &error),
            NodesError::Refused { .. } => Self::of(Exit::Config, &error),
        }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let exit = match &error {
            StoreError::InUse { .. } => Exit::TempFail,
            StoreError::File { .. } => Exit::IoErr,
        };
        Self::of(exit, &error)
    }
}

impl From<PullError> for CliError {
    fn from(error: PullError) -> Self {
        match error {
            PullError::Call(error) => error.into(),
            PullError::Secret(error) => error.into(),
            PullError::Tls(error) => error.into(),
            PullError::Store(error) => error.into(),
            PullError::Ended => Self::of(Exit::Software, &error),
        }
    }
}

impl From<TlsError> for CliError {
    fn from(error: TlsError) -> Self {
        PartError::Tls(error).into()
    }
}

impl From<ServerError> for CliError {
    fn from(error: ServerError) -> Self {
        let exit = match error {
            ServerError::Part(error) => return error.into(),
            ServerError::Socket { ref source, .. } if source.kind() == io::ErrorKind::AddrInUse => Exit::Unavailable,
            ServerError::Socket { ref source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Exit::NoPerm,
            ServerError::Listen { .. } | ServerError::Ring(RingError::InUse { .. }) => Exit::Unavailable,
            // Someone has to give the file or the folder to the agent's user first.
            ServerError::Ring(RingError::File { ref source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Exit::NoPerm
            }
            ServerError::Socket { .. } | ServerError::Ring(RingError::File { .. }) => Exit::CantCreat,
            ServerError::Plaintext { .. } | ServerError::Ring(RingError::Foreign { .. }) => Exit::Config,
            ServerError::Ring(
                RingError::Sqlite { .. }
                | RingError::WalHeld
                | RingError::Damaged { .. }
                | RingError::FoundDamaged(_)
                | RingError::DamagedAgain(_)
                | RingError::Gone,
            )
            | ServerError::Serve(_)
            | ServerError::Unsaved { .. } => Exit::IoErr,
            ServerError::Ring(RingError::Thread { .. } | RingError::Random)
            | ServerError::BootId(_)
            | ServerError::Passed(_)
            | ServerError::Signal(_)
            | ServerError::BootIdForm(_) => Exit::OsErr,
        };
        Self::of(exit, &error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::KeyFormatError;

    #[test]
    fn an_error_is_told_with_its_causes_and_its_hint() {
        let error = CliError::from(KeyError::File(FileError::Exposed { path: "/k".into(), mode: 0o644 }));
        assert_eq!(
            error.render(),
            "nodeaudit: can't use the key file: /k holds a secret and is open to group or others (mode 0644, must be 0600 or 0400)\n\
             nodeaudit: hint: chmod 600 /k\n"
        );
        let source = KeyFormatError::TooShort { bytes: 5 };
        let error = CliError::from(KeyError::Unusable { path: "/k".into(), source });
        assert_eq!(
            error.render(),
            "nodeaudit: the key file /k does not hold a usable key: the secret has 5 bytes, must have at least 32\n"
        );
    }
}
