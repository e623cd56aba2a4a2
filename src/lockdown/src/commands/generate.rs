//! `generate`: man pages and completions from the command line's own definition, for packaging.

use std::{fs, io, path::Path};

use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};

use crate::{
    cli::{Generate, GenerateCommand, public},
    complete,
    failure::Failure,
    output::Done,
};

/// Writes the files.
pub(crate) fn run(args: &Generate) -> Result<Done, Failure> {
    let (dir, result) = match &args.what {
        GenerateCommand::Man { dir } => (dir, man(dir)),
        GenerateCommand::Completions { dir } => (dir, completions(dir)),
    };
    result.map_err(|error| Failure::refused("file", format!("{}: {error}", dir.display())))?;
    Ok(Done::new(""))
}

/// A page for each command. The main page is written by hand: docs/man/lockdown.1.
fn man(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    clap_mangen::generate_to(public(), dir)?;
    fs::remove_file(dir.join("lockdown.1"))
}

/// Scripts that ask the installed program: the people of a roster are in no script.
fn completions(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let shells: [(&dyn EnvCompleter, &str); 3] =
        [(&Bash, "lockdown.bash"), (&Zsh, "_lockdown"), (&Fish, "lockdown.fish")];
    for (shell, file) in shells {
        let mut script = Vec::new();
        shell.write_registration(complete::VAR, "lockdown", "lockdown", "lockdown", &mut script)?;
        if file.starts_with('_') {
            script.extend(FIRST_IN_ZSH.as_bytes());
        }
        fs::write(dir.join(file), script)?;
    }
    Ok(())
}

/// Zsh runs the file as a function when something is completed for the first time, and expects an answer that time as well.
const FIRST_IN_ZSH: &str = "[[ $funcstack[1] = _lockdown ]] && _clap_dynamic_completer_lockdown \"$@\"\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_public_command_has_a_man_page_and_three_shells_complete() {
        let dir = tempfile::tempdir().unwrap();
        man(dir.path()).unwrap();
        completions(dir.path()).unwrap();
        let mut names: Vec<String> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(
            names,
            [
                "_lockdown",
                "lockdown-allow.1",
                "lockdown-approve.1",
                "lockdown-case.1",
                "lockdown-check.1",
                "lockdown-deny.1",
                "lockdown-lift.1",
                "lockdown-lockdown.1",
                "lockdown-request.1",
                "lockdown-requests.1",
                "lockdown-revoke.1",
                "lockdown-roster-diff.1",
                "lockdown-roster-edit.1",
                "lockdown-roster-init.1",
                "lockdown-roster-publish.1",
                "lockdown-roster-show.1",
                "lockdown-roster-sign.1",
                "lockdown-roster.1",
                "lockdown-status.1",
                "lockdown-verify.1",
                "lockdown-who.1",
                "lockdown.bash",
                "lockdown.fish",
            ]
        );
    }

    #[test]
    fn the_manual_names_every_command_and_every_key_of_the_configuration() {
        let page = include_str!("../../../../docs/man/lockdown.1");
        let named = |name: &str| {
            page.lines().any(|line| line.starts_with(".B") && line.split([' ', '\\']).any(|word| word == name))
        };
        for command in public().get_subcommands() {
            assert!(named(command.get_name()), "{}", command.get_name());
        }
        for key in [
            "server",
            "ca_file",
            "key",
            "person",
            "organization",
            "deny_keys",
            "plain_approvers",
            "threshold",
            "min_version",
        ] {
            assert!(page.contains(key), "{key}");
        }
    }
}
