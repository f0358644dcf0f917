//! Writing a command's result.

use std::io::{self, Write as _};

use super::error::CliError;

/// Writes `text` to standard output. A reader that has seen enough is no failure.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::io("can't write to standard output", &error))
        }
        _ => Ok(()),
    }
}
