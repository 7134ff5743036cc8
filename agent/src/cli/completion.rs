//! `ztna completion`

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;

/// Prints what lets a shell complete ztna's commands and options with the Tab key
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct CompletionArgs {
    /// The shell
    shell: Shell,
}

const EXAMPLES: &str = "Examples:
  source <(ztna completion bash)                                                    in this shell
  ztna completion bash | sudo tee /usr/share/bash-completion/completions/ztna       for everybody, from now on
  ztna completion zsh > \"${fpath[1]}/_ztna\"
  ztna completion fish > ~/.config/fish/completions/ztna.fish";

pub fn run(args: CompletionArgs) -> anyhow::Result<ExitCode> {
    io::stdout().write_all(&script(args.shell))?;
    Ok(ExitCode::SUCCESS)
}

fn script(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ztna", &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// What bash offers at the end of a line.
    fn offered(line: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ztna");
        std::fs::write(&path, script(Shell::Bash)).unwrap();
        let ask = r#"source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1));
            _ztna ztna "${@: -1}" "${@: -2:1}"; printf '%s\n' "${COMPREPLY[@]}""#;
        let done = Command::new("bash")
            .args(["--norc", "-c", ask, "bash"])
            .arg(&path)
            .args(line)
            .output()
            .unwrap();
        assert!(done.stderr.is_empty(), "{done:?}");
        let text = String::from_utf8(done.stdout).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn bash_completes_commands_options_and_values() {
        assert_eq!(offered(&["ztna", "netc"]), ["netcheck"]);
        assert!(offered(&["ztna", "stat"]).contains(&"status".to_owned()));
        assert_eq!(offered(&["ztna", "ping", "--cou"]), ["--count"]);
        assert!(offered(&["ztna", "completion", "b"]).contains(&"bash".to_owned()));
    }

    #[test]
    fn other_shells_find_no_fault_in_theirs() {
        for (shell, name) in [(Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
            let text = script(shell);
            assert!(
                String::from_utf8(text.clone())
                    .unwrap()
                    .contains("netcheck")
            );
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("script");
            std::fs::write(&path, text).unwrap();
            // Where the shell is not here, only its text is looked at.
            if let Ok(done) = Command::new(name).arg("-n").arg(&path).output() {
                assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
            }
        }
    }
}
