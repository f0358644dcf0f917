//! The binary: all of it is in the library, where tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    nodeaudit::cli::main(std::env::args_os())
}
