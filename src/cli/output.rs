//! Writing a command's result.

use std::io::{self, Write as _};

use super::error::CliError;

/// Writes `text` to standard output. A reader that has seen enough is no failure.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    print_bytes(text.as_bytes()).map(|_| ())
}

/// Whether someone still reads what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    There,
    Gone,
}

/// Writes a part of a result that is long, and gives whether the next one is wanted.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<Reader, CliError> {
    let mut output = io::stdout().lock();
    match output.write_all(bytes).and_then(|()| output.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(CliError::io("can't write to standard output", &error)),
    }
}

/// Says on standard error what does not end the command.
pub(super) fn complain(line: &str) {
    // Where standard error is closed there is nobody left to tell.
    let _ = writeln!(io::stderr(), "nodeaudit: {line}");
}
