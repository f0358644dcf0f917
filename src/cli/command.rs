//! The commands, and how the process ends.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::error::CliError;
use super::exit::Exit;
use super::{audit, check_config, config, pull, serve, support_bundle, tls, token};

/// nodeaudit: a node's management API, with every call recorded on the node.
#[derive(Debug, Parser)]
#[command(name = "nodeaudit", version, about, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent
    Serve(serve::Serve),
    /// Read the log of an agent, this node's or another one's
    #[command(subcommand)]
    Audit(Box<audit::Audit>),
    /// Read on in the logs of many nodes, into a file for each
    Pull(pull::Pull),
    /// Issue a bearer token, or look into one
    #[command(subcommand)]
    Token(token::Token),
    /// Make this node's key and certificate
    #[command(subcommand)]
    Tls(tls::TlsCommand),
    /// Say what is wrong with the configuration
    CheckConfig(check_config::CheckConfig),
    /// Look into the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print what those who help want to know of this node; no entry, key or token is in it
    SupportBundle(support_bundle::SupportBundle),
}

/// Runs the command that `arguments` name, the program's own name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return tell_usage(&error),
    };
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => tell(&error),
    }
}

impl Command {
    fn run(self) -> Result<(), CliError> {
        match self {
            Self::Serve(command) => command.run(),
            Self::Audit(command) => command.run(),
            Self::Pull(command) => command.run(),
            Self::Token(command) => command.run(),
            Self::Tls(command) => command.run(),
            Self::CheckConfig(command) => command.run(),
            Self::Config(command) => command.run(),
            Self::SupportBundle(command) => command.run(),
        }
    }
}

/// Prints help, the version, or what is wrong with the command line; only the last is a failure.
fn tell_usage(error: &clap::Error) -> ExitCode {
    // Where standard error is closed there is nobody left to tell.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(Exit::Usage.code()) } else { ExitCode::SUCCESS }
}

fn tell(error: &CliError) -> ExitCode {
    let _ = std::io::stderr().write_all(error.render().as_bytes());
    ExitCode::from(error.exit().code())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use clap::error::ErrorKind;

    use super::*;

    fn refusal(line: &str) -> ErrorKind {
        Cli::try_parse_from(line.split(' ')).expect_err(line).kind()
    }

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_command_lines_are_refused() {
        use ErrorKind::{ArgumentConflict, InvalidSubcommand, InvalidValue, MissingRequiredArgument, ValueValidation};
        let catalogue = [
            ("nodeaudit serv", InvalidSubcommand),
            ("nodeaudit serve --apply-changes", MissingRequiredArgument),
            ("nodeaudit serve --listen localhost", ValueValidation),
            ("nodeaudit serve --state-dir=", InvalidValue),
            ("nodeaudit token issue --role read --ttl 1m", MissingRequiredArgument),
            ("nodeaudit token issue --subject ada --role read", MissingRequiredArgument),
            ("nodeaudit token issue --subject ada --ttl 1m", MissingRequiredArgument),
            ("nodeaudit token issue --subject ada --role read --ttl 8d", ValueValidation),
            ("nodeaudit token issue --subject ada --permission all --ttl 1m", InvalidValue),
            ("nodeaudit check-config --dev --dev", ArgumentConflict),
        ];
        for (line, kind) in catalogue {
            assert_eq!(refusal(line), kind, "{line}");
        }
    }

    #[test]
    fn help_and_version_are_no_failures() {
        assert_eq!(refusal("nodeaudit --version"), ErrorKind::DisplayVersion);
        assert_eq!(refusal("nodeaudit token --help"), ErrorKind::DisplayHelp);
    }
}
