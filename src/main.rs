//! The binary: all of it is in the library, where tests reach it.

use std::process::ExitCode;

#[cfg(target_env = "musl")]
use dlmalloc::GlobalDlmalloc;

/// Instead of musl's, which takes more processor time. glibc's takes less than either: dlmalloc has one lock, for which threads wait.
///
/// In the binary alone, so that what uses the library has its own. SQLite keeps to that of the C library.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

fn main() -> ExitCode {
    nodeaudit::cli::main(std::env::args_os())
}
