//! The command line: what may be typed, and the help and man pages that say so. It never acts.

use std::{path::PathBuf, time::Duration};

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::ArgValueCandidates;
use control::{Cidr, DurationError, parse_duration};
use record::{Account, GrantId, Person};

use crate::{
    commands::records::{Kinds, MAX_LAST},
    complete,
    moment::{At, Since},
};

const AFTER: &str = "\
Exit status: 0 done; 1 refused, or found wrong; 2 wrong usage; 69 the daemon does not answer; 78 bad configuration.

Files: /run/lockdownd/control.sock is where lockdownd listens; it answers root, and operators in a live granted session of their own. \
Who is not root needs a live granted session of their own as well.

See also: lockdownd(8), lockdownd.toml(5), login-gate(8).";

/// Give, end and watch leave to log in to this host over SSH.
///
/// lockdownctl asks lockdownd(8) on this host. Nobody logs in over SSH without a grant: leave for one person to log in
/// to one account with their own keys, until a moment. Exempt (break-glass) accounts alone are never locked down.
#[derive(Debug, Parser)]
#[command(name = "lockdownctl", version, after_long_help = AFTER)]
pub(crate) struct Cli {
    /// Print JSON for programs instead of text for people; a refusal is printed as {"refusal": …}
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Which time zone to type and show times in: utc, or local (TZ, else /etc/localtime); --json is always in UTC
    #[arg(long, global = true, value_name = "ZONE", default_value = "utc")]
    pub(crate) time: Zone,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What times are typed and shown in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Zone {
    /// UTC, as records have it.
    Utc,
    /// The time zone of whoever asks.
    Local,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the mode, what is in force, and what an operator should know
    ///
    /// Sources of accounts in nsswitch.conf(5) that cannot be listed, such as LDAP or SSSD, are named. Of those, only
    /// accounts that the configuration, a grant or a session names are watched.
    Status,
    Allow(Allow),
    Revoke(Revoke),
    Lockdown(Lockdown),
    Enforce(Enforce),
    Grants(Grants),
    Sessions(Sessions),
    /// List who exists, with fingerprints and the accounts they may be given
    People,
    /// Show what enforce would change now, and why
    ///
    /// In observe this is what switching to enforce would do, and what stands in its way; in enforce it is what the next
    /// sweep would do. Nothing is changed. Exit status 1 if something stands in the way.
    Plan,
    WaysIn(WaysIn),
    Records(Records),
    Verify(Verify),
    Quarantine(Quarantine),
    Apply(Apply),
    BreakGlass(BreakGlass),
    Check(Check),
    Metrics(Metrics),
    Generate(Generate),
}

/// Take a signed document, as root
///
/// For hosts that no feed reaches: a grant, revoke, lockdown, lift or roster that `lockdown … --out FILE` wrote. It is believed
/// for its signatures, whoever brings it. A roster of more than 1 MiB comes by a feed. Exit status 1 if it is refused, or waits
/// for something.
///
/// Examples: lockdownctl apply grant.json; lockdownctl apply - < roster.json
#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// The file; - for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// Permit a person to log in
///
/// The grant is on disk, and recorded, before it takes effect. The same grant again extends it: who gave it and
/// why stays as it was, and who extended it, with their own reason, is on record. The end that is printed is the one that
/// counts: a scheduled lockdown may come before what was asked for.
///
/// Examples: lockdownctl allow frank --account ubuntu --for 2h --reason INC-42;
/// lockdownctl allow frank --for 90m --at 18:00 --from 10.1.0.0/16 --reason "release 7"
#[derive(Debug, Args)]
pub(crate) struct Allow {
    /// The person, as `lockdownctl people` lists them
    #[arg(add = ArgValueCandidates::new(complete::people))]
    pub(crate) person: Person,
    /// The account to log in to; without it, the one named as the person, else the only one they may have
    #[arg(long, value_name = "ACCOUNT", add = ArgValueCandidates::new(complete::accounts))]
    pub(crate) account: Option<Account>,
    /// For how long, such as 2h, 90m, 1h30m or 1d; without it, the configured default
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// When it begins: RFC 3339 such as 2026-12-01T18:00:00Z, or HH:MM for the next such minute (see --time); without it, now
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<At>,
    /// Only from these addresses, such as 10.1.0.0/16; may be given several times
    #[arg(long, value_name = "CIDR")]
    pub(crate) from: Vec<Cidr>,
    /// Why, in a few words: a ticket, an incident
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// End one grant, all of a person's, or one session, now
///
/// The keys of a grant that ends stop working and its sessions are cut at once. A grant that the configuration renders stays
/// ended until its content there changes. A session that is ended by itself leaves its grant in force: its person may log in
/// again. One on an exempt account is not ended.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// The id of a grant, as `lockdownctl grants` lists it, or of a session, as `lockdownctl sessions` does; or a person's name
    #[arg(value_name = "GRANT|PERSON|SESSION", add = ArgValueCandidates::new(complete::to_revoke))]
    pub(crate) target: String,
    /// Why, in a few words
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// End every grant and every granted session, now
///
/// Sessions on exempt accounts live on. Your own granted session ends too.
#[derive(Debug, Args)]
pub(crate) struct Lockdown {
    /// Why, in a few words
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// Try enforce for a while; it goes back to observe by itself
///
/// Unless the configuration says enforce by then. It is refused, with what to do, while something stands in its way;
/// `lockdownctl plan` shows that beforehand.
#[derive(Debug, Args)]
pub(crate) struct Enforce {
    /// For how long, such as 10m
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub(crate) duration: Duration,
}

/// List grants that are active or waiting
#[derive(Debug, Args)]
pub(crate) struct Grants {
    /// Those that have ended too
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) whose: Whose,
}

/// List live SSH sessions, and whose they are
#[derive(Debug, Args)]
pub(crate) struct Sessions {
    #[command(flatten)]
    pub(crate) whose: Whose,
}

/// Which of a list are shown.
#[derive(Debug, Default, Args)]
pub(crate) struct Whose {
    /// Only those of this person
    #[arg(long, value_name = "PERSON", add = ArgValueCandidates::new(complete::people))]
    pub(crate) person: Option<Person>,
    /// Only those on this account
    #[arg(long, value_name = "ACCOUNT", add = ArgValueCandidates::new(complete::known_accounts))]
    pub(crate) account: Option<Account>,
}

/// List every way in that an SSH login could take, and close those that are open
///
/// Each sshd that runs, with its own configuration, and each other SSH server that listens, is looked at: key files,
/// AuthorizedKeysCommand, certificate authorities, host-based, passwords, keyboard-interactive, GSSAPI, root's logins, the
/// gate's place in PAM, exempt accounts. Each way is closed, closed by the gate, or open, with the one line that closes it.
/// Exit status 1 while one is open that is not open on purpose. What is outside SSH is named, and not looked at.
///
/// --close shows a drop-in for sshd, /etc/ssh/sshd_config.d/01-lockdownd-ways-in.conf, that closes in sshd itself whatever
/// a grant does not need, open or closed by the gate. It says nothing about exempt accounts, keys, or where they are read from.
#[derive(Debug, Args)]
pub(crate) struct WaysIn {
    /// Print the drop-in that closes what is open; change nothing
    #[arg(long, conflicts_with = "undo")]
    pub(crate) close: bool,
    /// With --close: check it with sshd, put it in place, and have sshd read it
    #[arg(long, requires = "close")]
    pub(crate) apply: bool,
    /// Take the drop-in away again
    #[arg(long)]
    pub(crate) undo: bool,
}

/// Read the records of what happened
///
/// With --json every record is printed as the exact line of the ledger, so that its hash and signature can be checked.
#[derive(Debug, Args)]
pub(crate) struct Records {
    /// Go on printing records as they come; without --since, begin with the last ten
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Only records since then: RFC 3339, YYYY-MM-DD, HH:MM for the last such minute (see --time), or 2h for two hours ago
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Since>,
    /// Only records from before then, in the same forms
    #[arg(long, value_name = "TIME", conflicts_with = "follow")]
    pub(crate) until: Option<Since>,
    /// Print at once, also where standard output is a terminal: no less(1), nor what PAGER names
    #[arg(long)]
    pub(crate) no_pager: bool,
    /// Only the last so many of those that fit
    #[arg(long, short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=MAX_LAST))]
    pub(crate) last: Option<u32>,
    /// Only records of this person
    #[arg(long, value_name = "PERSON", add = ArgValueCandidates::new(complete::people))]
    pub(crate) person: Option<Person>,
    /// Only records of this account
    #[arg(long, value_name = "ACCOUNT", add = ArgValueCandidates::new(complete::known_accounts))]
    pub(crate) account: Option<Account>,
    /// Only records of this grant
    #[arg(long, value_name = "GRANT", add = ArgValueCandidates::new(complete::grants))]
    pub(crate) grant: Option<GrantId>,
    /// Only records of this type, such as session.opened, or of all that begin alike: session.*; may be given again
    #[arg(long = "type", value_name = "TYPE", add = ArgValueCandidates::new(complete::kinds))]
    pub(crate) kinds: Vec<Kinds>,
}

/// Verify the ledger: every record's form, number, chain and signature
///
/// Works offline and without the daemon. Exit status 1 if anything is off. It says how far the ledger is complete, and how
/// far a server has acknowledged it: root on this host could have rewritten what nobody has acknowledged yet.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("held").args(["receipts", "checkpoint", "case"]).multiple(true)))]
pub(crate) struct Verify {
    /// The directory that holds the ledger's segments
    #[arg(long, value_name = "DIR", default_value = crate::commands::verify::LEDGER)]
    pub(crate) ledger: PathBuf,
    /// An allowed_signers file (ssh-keygen(1)) with the keys to trust; without it, the host's own signing_key.pub
    #[arg(long, value_name = "FILE")]
    pub(crate) signers: Option<PathBuf>,
    /// The server's receipts for this host, one a line, as GET /v1/receipts?host=HOST of the compliance API gives them:
    /// they find what root on the host has signed anew
    #[arg(long, value_name = "FILE")]
    pub(crate) receipts: Option<PathBuf>,
    /// A checkpoint of the server's that somebody kept (GET /v1/checkpoint), or proofs that lead from this ledger to one, one a
    /// line (GET /v1/checkpoints/N/proof?ledger=LEDGER); may be given several times. The ledger has to have that record under
    /// that number, and no ledger may go back, or become another, between two checkpoints
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Vec<PathBuf>,
    /// A case file of a compliance API (GET /v1/case), instead of a ledger: what holds, what is missing, what nobody can know.
    /// Without --server-key the keys that it names itself are taken, which shows that it is whole, and not whose it is
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ledger", "signers", "receipts", "checkpoint"])]
    pub(crate) case: Option<PathBuf>,
    /// The server's public key, or an allowed_signers file with it (GET /v1/server); without it, the key that the daemon
    /// has pinned, which root on the host can change
    #[arg(long, value_name = "FILE", requires = "held")]
    pub(crate) server_key: Option<PathBuf>,
}

/// Look at what was removed, and put it back
#[derive(Debug, Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Quarantine {
    #[command(subcommand)]
    pub(crate) command: QuarantineCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// List what was removed and is kept
    List,
    /// Show one item with its content
    Show {
        /// Its id, as `lockdownctl quarantine list` prints it
        #[arg(add = ArgValueCandidates::new(complete::quarantined))]
        id: String,
    },
    /// Put one item back where it stood
    ///
    /// In enforce a key file that no grant backs is removed again at once: put it back in observe, or make its account exempt.
    Restore {
        /// Its id, as `lockdownctl quarantine list` prints it
        #[arg(add = ArgValueCandidates::new(complete::quarantined))]
        id: String,
    },
    /// Remove the keys of an account that is not exempt any more
    ///
    /// They let nobody in, and are kept for a day, so that a mistake in accounts.exempt costs no break-glass key.
    Now {
        /// The account
        #[arg(add = ArgValueCandidates::new(complete::known_accounts))]
        account: Account,
    },
}

/// See to the accounts that are kept for an emergency
#[derive(Debug, Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct BreakGlass {
    #[command(subcommand)]
    pub(crate) command: BreakGlassCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BreakGlassCommand {
    /// Could each exempt account log in now?
    ///
    /// Nobody is logged in. Asked are each sshd that listens for connections from the network, for what it has for the account (by
    /// what it has read, where that is known), PAM's account step in the service that sshd uses, libwrap, and the shell, which
    /// runs one `echo` as the account. Looked at are the account's key files as sshd would (owner, mode, every directory above), and
    /// in PAM's session step, which only a login runs, what must fail. Each is tried from nowhere in particular and from
    /// the addresses that Match, AllowUsers, access.conf and hosts.allow name: what holds only for some is said with these.
    /// What cannot be told without a login is said as a note.
    ///
    /// PAM's modules and programs run as in a login, within lockdownd's sandbox: they have no network, find LOCKDOWND_ASKS=1 in
    /// PAM's environment, and log as `asker`. Exit status 1 if one of the accounts could not log in, or if an sshd has
    /// not read its configuration since that changed and what it goes by is not known.
    Test,
}

/// Check a configuration; exit status 78 if it does not check out
///
/// With --as the whole configuration is judged as it would be with FILE at DESTINATION, which may be
/// /etc/lockdownd/config.toml or /etc/lockdownd/conf.d/NAME.toml, there yet or not. Files whose name begins with a dot are
/// no part of the configuration, so that a draft may lie beside them. For Chef: verify 'lockdownctl check --as
/// /etc/lockdownd/conf.d/people.toml %{path}'
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// One file, judged alone but for the people who are installed; without it, /etc/lockdownd/config.toml and
    /// /etc/lockdownd/conf.d/*.toml together
    pub(crate) file: Option<PathBuf>,
    /// Judge the whole as if FILE stood at DESTINATION; may be given several times, for files that change together
    #[arg(long = "as", num_args = 2, value_names = ["DESTINATION", "FILE"], conflicts_with = "file")]
    pub(crate) proposed: Vec<PathBuf>,
}

/// Print how things stand in Prometheus' text format
///
/// For node_exporter's textfile collector: `systemctl enable --now lockdownd-metrics.timer` leaves them every minute in
/// /var/lib/prometheus/node-exporter/lockdownd.prom, where Debian's prometheus-node-exporter reads them. Where the daemon does not
/// answer, lockdownd_up is 0 and the exit status 69.
#[derive(Debug, Args)]
pub(crate) struct Metrics {
    /// Put them into this file in one go; its name has to end in .prom for the collector
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// Write man pages or shell completions, for packaging
#[derive(Debug, Args)]
#[command(hide = true, disable_help_subcommand = true)]
pub(crate) struct Generate {
    #[command(subcommand)]
    pub(crate) what: GenerateCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum GenerateCommand {
    /// Man pages, one for each command
    Man {
        /// Where to
        dir: PathBuf,
    },
    /// Completions for bash, zsh and fish
    Completions {
        /// Where to
        dir: PathBuf,
    },
}

/// The command as others may see it: without `generate`, which hides its commands from help but not from files.
pub(crate) fn public() -> clap::Command {
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

fn duration(text: &str) -> Result<Duration, DurationError> {
    match parse_duration(text)? {
        Duration::ZERO => Err(DurationError { given: text.to_owned(), why: "it is no time at all" }),
        length => Ok(length),
    }
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    fn error(line: &str) -> String {
        parse(line).unwrap_err().to_string()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_allow_is_read_whole() {
        let line = "lockdownctl allow frank --account ubuntu --for 1h30m --at 2026-12-01T18:00:00Z --from 10.0.0.0/8 --from ::1 --reason INC-42 --json";
        let cli = parse(line).unwrap();
        assert!(cli.json);
        let Command::Allow(allow) = cli.command else { panic!("{cli:?}") };
        assert_eq!(allow.person.as_str(), "frank");
        assert_eq!(allow.account.unwrap().as_str(), "ubuntu");
        assert_eq!(allow.duration, Some(Duration::from_secs(5400)));
        assert_eq!(allow.from.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.0/8", "::1/128"]);
        assert_eq!(allow.reason.as_deref(), Some("INC-42"));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_have_worked() {
        for (line, named) in [
            ("lockdownctl allow frank --for 2hours", "90m, 1h30m or 400d"),
            ("lockdownctl allow frank --for 2", "a number has no unit"),
            ("lockdownctl allow frank --for 0s", "no time at all"),
            ("lockdownctl allow frank --at tomorrow", "2026-12-01T18:00:00Z"),
            ("lockdownctl allow frank --from 10.1.2.3/8", "did you mean 10.0.0.0/8"),
            ("lockdownctl allow fränk", "starting with a letter or digit"),
            ("lockdownctl records --type session.open", "session.opened"),
            ("lockdownctl enforce", "--for <DURATION>"),
        ] {
            let said = error(line);
            assert!(said.contains(named), "{line}: {said}");
            assert_eq!(parse(line).unwrap_err().exit_code(), 2);
        }
    }

    #[test]
    fn files_are_proposed_in_pairs() {
        let read = |line: &str| {
            let Command::Check(check) = parse(line).unwrap().command else { panic!("{line}") };
            (check.file, check.proposed.iter().map(|path| path.display().to_string()).collect::<Vec<_>>())
        };
        assert_eq!(read("lockdownctl check --as /d/a /t/a"), (None, vec!["/d/a".to_owned(), "/t/a".to_owned()]));
        assert_eq!(read("lockdownctl check --as /d/a /t/a --as /d/b /t/b").1.len(), 4);
        assert!(error("lockdownctl check --as /d/a").contains("2 values required"));
        assert!(error("lockdownctl check --as /d/a /t/a /t/b").contains("cannot be used with"));
    }

    #[test]
    fn a_command_alone_shows_help_and_is_wrong_usage() {
        let error = parse("lockdownctl").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand);
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn help_is_a_command_too() {
        for line in ["lockdownctl help", "lockdownctl help records"] {
            let help = parse(line).unwrap_err();
            assert_eq!((help.kind(), help.exit_code()), (ErrorKind::DisplayHelp, 0), "{line}");
        }
    }

    #[test]
    fn packaging_commands_are_not_in_the_help() {
        assert!(!Cli::command().render_long_help().to_string().contains("generate"));
    }
}
