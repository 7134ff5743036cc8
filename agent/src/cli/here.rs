//! Texts as they are right on this system. They are written for Unix, where a command that changes the system begins with
//! `sudo`; Windows has none, and who types there has opened the terminal as an administrator.

use std::borrow::Cow;

use clap::Command;

const SUDO: &str = "sudo ";

/// What is said to people.
pub fn text(text: &str) -> Cow<'_, str> {
    match cfg!(windows) {
        true => Cow::Owned(for_windows(text)),
        false => Cow::Borrowed(text),
    }
}

/// A command with its help.
pub fn command(command: Command) -> Command {
    match cfg!(windows) {
        true => help_for_windows(command),
        false => command,
    }
}

fn for_windows(text: &str) -> String {
    text.replace(SUDO, "")
}

fn help_for_windows(mut command: Command) -> Command {
    if let Some(examples) = command.get_after_help().map(ToString::to_string) {
        command = command.after_help(for_windows(&examples));
    }
    command.mut_subcommands(help_for_windows)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn what_is_said_on_windows_can_be_typed_there() {
        let text = "the tunnel is down; bring it up with `sudo ztna up`";
        assert_eq!(
            for_windows(text),
            "the tunnel is down; bring it up with `ztna up`"
        );
        let mut command = help_for_windows(Cli::command());
        command.build();
        let mut left = vec![command];
        while let Some(mut command) = left.pop() {
            let help = command.render_long_help().to_string();
            assert!(!help.contains(SUDO), "{help}");
            left.extend(command.get_subcommands().cloned());
        }
    }
}
