//! Commands that come with a sweep's file run on a cluster in the name of whoever launches it: they are shown, and accepted once.

use std::fs;
use std::io::{IsTerminal, stderr, stdin};
use std::path::PathBuf;

use etcetera::BaseStrategy;
use ibhost_framework::storage::write_atomic;
use ibhost_sweep::slurm::{Commands, Options};

use crate::exit::Failure;
use crate::messages::say;
use crate::paths::show;

/// Lets the launch go on when `options`, as they stand in a file, bring no commands, or commands that this user accepted before, accepts
/// by a flag, or accepts now.
pub fn check(options: &Options, by_flag: bool) -> Result<(), Failure> {
    let Some(commands) = options.commands() else { return Ok(()) };
    let record = place(&commands);
    // The content is looked at too: a file of that name proves nothing.
    if record.as_ref().is_some_and(|path| fs::read_to_string(path).is_ok_and(|text| text == commands.text)) {
        return Ok(());
    }
    say!("the sweep's file brings commands that would run on the cluster in your name:");
    for line in commands.text.lines() {
        say!("  {line}");
    }
    if !by_flag && !agrees() {
        let hint = "read them; `--accept-setup` runs them, now and whenever they come again";
        return Err(Failure::usage(format!("these commands were not accepted, so nothing is submitted\n  hint: {hint}")));
    }
    let Some(path) = record else {
        tracing::warn!("they will be asked for again: the home folder is unknown");
        return Ok(());
    };
    let kept = path.parent().map_or(Ok(()), fs::create_dir_all).map_err(|e| e.to_string());
    if let Err(reason) = kept.and_then(|()| write_atomic(&path, commands.text.as_bytes()).map_err(|e| e.to_string())) {
        tracing::warn!("they will be asked for again, `{}` cannot be written: {reason}", show(&path));
    }
    Ok(())
}

/// Where it is noted that these commands were accepted: with the user, as what comes with a sweep's folder can be anybody's.
fn place(commands: &Commands) -> Option<PathBuf> {
    let base = etcetera::choose_base_strategy().ok()?;
    let state = base.state_dir().unwrap_or_else(|| base.data_dir());
    Some(state.join("ibhost/accepted-setup").join(&commands.hash))
}

/// Asks at the terminal; where there is none, nobody agrees.
fn agrees() -> bool {
    if !stdin().is_terminal() || !stderr().is_terminal() {
        return false;
    }
    say!("run them? Type yes or no:");
    let mut answer = String::new();
    stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "yes")
}
