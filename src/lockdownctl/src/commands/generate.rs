//! `generate`: man pages and completions from the command line's own definition, for packaging.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};

use crate::{
    ask::Failure,
    cli::{Generate, GenerateCommand, public},
    complete,
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
Where lockdownd listens. It answers root, and operators: people marked as such in the configuration, and members of the group
lockdown\\-operators, in a live granted session of their own.
.SH SEE ALSO
lockdownd(8), lockdownd.toml(5), login\\-gate(8), ssh\\-keygen(1), journalctl(1)
";

fn man(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    clap_mangen::generate_to(public(), dir)?;
    fs::OpenOptions::new().append(true).open(dir.join("lockdownctl.1"))?.write_all(MORE.as_bytes())
}

/// Scripts that ask the installed program: what it completes is known to the running daemon alone.
fn completions(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let shells: [(&dyn EnvCompleter, &str); 3] =
        [(&Bash, "lockdownctl.bash"), (&Zsh, "_lockdownctl"), (&Fish, "lockdownctl.fish")];
    for (shell, file) in shells {
        let mut script = Vec::new();
        shell.write_registration(complete::VAR, "lockdownctl", "lockdownctl", "lockdownctl", &mut script)?;
        if file.starts_with('_') {
            script.extend(FIRST_IN_ZSH.as_bytes());
        }
        fs::write(dir.join(file), script)?;
    }
    Ok(())
}

/// Zsh runs the file as a function when something is completed for the first time, and expects an answer that time as well.
const FIRST_IN_ZSH: &str = "[[ $funcstack[1] = _lockdownctl ]] && _clap_dynamic_completer_lockdownctl \"$@\"\n";

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
                "lockdownctl-apply.1",
                "lockdownctl-break-glass-test.1",
                "lockdownctl-break-glass.1",
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
        assert!(files[22].1.contains(".SH EXIT STATUS"));
    }

    #[test]
    fn three_shells_ask_the_program_what_to_complete() {
        let files = written(|dir| GenerateCommand::Completions { dir });
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["_lockdownctl", "lockdownctl.bash", "lockdownctl.fish"]);
        assert!(files.iter().all(|(_, text)| text.contains(&format!("{}=", complete::VAR))));
    }
}
