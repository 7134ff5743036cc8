//! Runs the tools that build a lab (`ip`, `nft`, …) and turns their failures into readable errors.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often [`poll`] looks.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// It cannot be started, or ends with a status other than 0: the error holds the command line and
/// what the command said.
pub fn run(command: &mut Command) -> Result<String> {
    run_with_input(command, "")
}

/// [`run`] with text on standard input.
///
/// # Errors
/// As [`run`].
pub fn run_with_input(command: &mut Command, input: &str) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C on the terminal is for this program, which then takes everything down in order.
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{}`; is it installed?", line(command)))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that fails early closes its input; its own message says more than this error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .with_context(|| format!("cannot wait for `{}`", line(command)))?;
    check(command, &output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn check(command: &Command, output: &Output) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = if said.trim().is_empty() {
        String::from_utf8_lossy(&output.stdout)
    } else {
        said
    };
    bail!(
        "`{}` failed ({}): {}",
        line(command),
        output.status,
        said.lines().take(3).collect::<Vec<_>>().join(" | ")
    );
}

/// A command as one would type it.
#[must_use]
pub fn line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| part.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Asks again and again until there is an answer, and returns it.
///
/// # Errors
/// `ask` fails, or has no answer within `limit`; then the error names `what`.
pub fn poll<T>(
    limit: Duration,
    what: &str,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {} s", limit.as_secs_f32());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let error = run(Command::new("sh").args(["-c", "echo broken >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("sh -c"), "{text}");
        assert!(text.contains("broken"), "{text}");
        assert!(text.contains('3'), "{text}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(error.to_string().contains("no-such-program-here"));
    }

    #[test]
    fn poll_returns_the_first_answer_and_names_what_never_came() {
        let mut asked = 0;
        let answer = poll(Duration::from_secs(60), "third time", || {
            asked += 1;
            Ok((asked == 3).then_some(asked))
        });
        assert_eq!(answer.unwrap(), 3);
        let never = poll(Duration::ZERO, "the moon", || Ok(None::<()>)).unwrap_err();
        assert!(never.to_string().contains("the moon"));
    }
}
