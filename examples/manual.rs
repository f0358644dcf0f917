//! Writes the man pages and the shell completions of the command line into a folder, from the definitions that the agent itself
//! parses with: `cargo run --example manual -- DIR`. The packages hold them; the agent's binary does not.
//!
//! Below DIR they lie as below `/usr/share`.

use std::fs;
use std::io;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use nodeaudit::cli::Cli;

const NAME: &str = "nodeaudit";

/// Where each shell looks for the completions of a command, and the file's name there.
const COMPLETIONS: [(Shell, &str, &str); 3] = [
    (Shell::Bash, "bash-completion/completions", "nodeaudit"),
    (Shell::Zsh, "zsh/vendor-completions", "_nodeaudit"),
    (Shell::Fish, "fish/vendor_completions.d", "nodeaudit.fish"),
];

fn main() -> io::Result<()> {
    let usage = || io::Error::new(io::ErrorKind::InvalidInput, "usage: manual DIR");
    let share = std::env::args_os().nth(1).ok_or_else(usage)?;
    let share = Path::new(&share);
    let pages = share.join("man/man8");
    fs::create_dir_all(&pages)?;
    let mut command = Cli::command();
    command.build();
    write_pages(command, &pages)?;
    for (shell, folder, file) in COMPLETIONS {
        let folder = share.join(folder);
        fs::create_dir_all(&folder)?;
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), NAME, &mut text);
        fs::write(folder.join(file), text)?;
    }
    Ok(())
}

/// A page for the command and one for each below it, in the section of what administrators run.
fn write_pages(command: Command, folder: &Path) -> io::Result<()> {
    command.get_subcommands().try_for_each(|below| write_pages(below.clone(), folder))?;
    Man::new(command).section("8").generate_to(folder)?;
    Ok(())
}
