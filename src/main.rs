//! The binary: all of it is in the library, where tests reach it.

use std::process::ExitCode;

use dlmalloc::GlobalDlmalloc;

/// In the binary alone, so that what uses the library has its own. SQLite keeps to that of the C library.
#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

fn main() -> ExitCode {
    nodeaudit::cli::main(std::env::args_os())
}
