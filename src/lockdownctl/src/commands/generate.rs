//! `generate`: man pages and completions from the command line's own definition, for packaging.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

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

/// What the main man page says beyond the command line's own definition, as roff.
const MORE: &str = "\
.SH EXIT STATUS
.TP
0
Done.
.TP
1
Refused, or found wrong.
.TP
2
Wrong usage.
.TP
69
The daemon does not answer.
.TP
78
The configuration is bad.
.SH FILES
.TP
/run/lockdownd/control.sock
Where lockdownd listens. Root and members of the group lockdown\\-operators reach it; who is not root needs a live
granted session of their own as well.
.SH SEE ALSO
lockdownd(8), lockdownd.toml(5), login\\-gate(8), ssh\\-keygen(1), journalctl(1)
";

/// The command as others may see it: without this module's, which hides its commands from help but not from files.
fn public() -> clap::Command {
    let whole = Cli::command();
    let about = whole.get_about().cloned().unwrap_or_default();
    let long_about = whole.get_long_about().cloned().unwrap_or_default();
    clap::Command::new("lockdownctl")
        .version(env!("CARGO_PKG_VERSION"))
        .about(about)
        .long_about(long_about)
        .disable_help_subcommand(true)
        .args(whole.get_arguments().cloned())
        .subcommands(whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned())
}

fn man(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    clap_mangen::generate_to(public(), dir)?;
    fs::OpenOptions::new().append(true).open(dir.join("lockdownctl.1"))?.write_all(MORE.as_bytes())
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
                "lockdownctl-metrics.1",
                "lockdownctl-people.1",
                "lockdownctl-plan.1",
                "lockdownctl-quarantine-list.1",
                "lockdownctl-quarantine-now.1",
                "lockdownctl-quarantine-restore.1",
                "lockdownctl-quarantine-show.1",
                "lockdownctl-quarantine.1",
                "lockdownctl-records.1",
                "lockdownctl-revoke.1",
                "lockdownctl-sessions.1",
                "lockdownctl-status.1",
                "lockdownctl-verify.1",
                "lockdownctl-ways-in.1",
                "lockdownctl.1",
            ]
        );
        assert!(files.iter().all(|(name, page)| page.contains(".SH NAME") && !name.contains("generate")));
        assert!(files[19].1.contains(".SH EXIT STATUS"));
    }

    #[test]
    fn three_shells_complete_the_commands() {
        let files = written(|dir| GenerateCommand::Completions { dir });
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["_lockdownctl", "lockdownctl.bash", "lockdownctl.fish"]);
        assert!(files.iter().all(|(_, text)| text.contains("quarantine") && !text.contains("packaging")));
    }
}
