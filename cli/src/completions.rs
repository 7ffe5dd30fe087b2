use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use crate::{Cli, Ended, failure::Failure, plain};

/// Writes a script that completes this command in your shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  darkroom completions bash > ~/.local/share/bash-completion/completions/darkroom
  darkroom completions zsh > \"${fpath[1]}/_darkroom\"
  darkroom completions fish > ~/.config/fish/completions/darkroom.fish")]
pub(crate) struct Completions {
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<Ended, Failure> {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "darkroom", &mut script);
        plain::line(String::from_utf8_lossy(&script).trim_end())?;
        Ok(Ended::Well)
    }
}
