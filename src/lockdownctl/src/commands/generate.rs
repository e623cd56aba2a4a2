//! `generate`: man pages and completions from the command line's own definition, for packaging.

use std::{fs, io, path::Path};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{
    ask::Failure,
    cli::{Cli, Generate, GenerateCommand},
    output::Done,
};

/// Writes the files.
pub(crate) fn run(args: &Generate) -> Result<Done, Failure> {
    let (dir, result) = match &args.what {
        GenerateCommand::Man { dir } => (dir, man(dir)),
        GenerateCommand::Completions { dir } => (dir, completions(dir)),
    };
    match result {
        Ok(()) => Ok(Done::new(String::new())),
        Err(error) => Err(Failure::here(format!("{}: {error}", dir.display()))),
    }
}

/// The command as others may see it: without this module's.
fn public() -> clap::Command {
    let whole = Cli::command();
    let shown: Vec<clap::Command> = whole.get_subcommands().filter(|c| !c.is_hide_set()).cloned().collect();
    let mut command = clap::Command::new("lockdownctl").subcommands(shown);
    command =
        command.version(env!("CARGO_PKG_VERSION")).after_long_help(crate::cli::AFTER).disable_help_subcommand(true);
    for (set, text) in [(whole.get_about(), false), (whole.get_long_about(), true)] {
        if let Some(set) = set {
            command = if text { command.long_about(set.clone()) } else { command.about(set.clone()) };
        }
    }
    command.args(whole.get_arguments().cloned())
}

fn man(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    clap_mangen::generate_to(public(), dir)
}

fn completions(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut public(), "lockdownctl", dir)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(what: impl Fn(std::path::PathBuf) -> GenerateCommand) -> Vec<(String, String)> {
        let dir = tempfile::tempdir().unwrap();
        let done = run(&Generate { what: what(dir.path().join("new")) }).unwrap();
        assert_eq!(done, Done::new(String::new()));
        let mut files: Vec<_> = fs::read_dir(dir.path().join("new"))
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
            .collect();
        files.sort();
        files
    }

    #[test]
    fn every_public_command_has_a_man_page() {
        let files = written(|dir| GenerateCommand::Man { dir });
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "lockdownctl-allow.1",
                "lockdownctl-check.1",
                "lockdownctl-enforce.1",
                "lockdownctl-grants.1",
                "lockdownctl-lockdown.1",
                "lockdownctl-people.1",
                "lockdownctl-plan.1",
                "lockdownctl-quarantine-list.1",
                "lockdownctl-quarantine-restore.1",
                "lockdownctl-quarantine-show.1",
                "lockdownctl-quarantine.1",
                "lockdownctl-records.1",
                "lockdownctl-revoke.1",
                "lockdownctl-sessions.1",
                "lockdownctl-status.1",
                "lockdownctl-verify.1",
                "lockdownctl.1",
            ]
        );
        assert!(files.iter().all(|(name, page)| page.contains(".SH NAME") && !name.contains("generate")));
    }

    #[test]
    fn three_shells_complete_the_commands() {
        let files = written(|dir| GenerateCommand::Completions { dir });
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["_lockdownctl", "lockdownctl.bash", "lockdownctl.fish"]);
        assert!(files.iter().all(|(_, text)| text.contains("quarantine") && !text.contains("packaging")));
    }
}
