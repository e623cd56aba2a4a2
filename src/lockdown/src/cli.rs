//! The command line: what may be typed, and the help and man pages that say so. It never acts.

use std::{path::PathBuf, time::Duration};

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::ArgValueCandidates;
use document::{AccountName, Reason, StackPattern};
use record::{Cidr, DurationError, Fingerprint, Person, Stack, parse_duration};
use terminal::moment::At;

use crate::complete;

const AFTER: &str = "\
Exit status: 0 all hosts did it; 3 some did not within --wait, or more people have to approve; 1 refused; 2 wrong usage; \
69 the server does not answer; 78 bad configuration.

Files: $LOCKDOWN_CONFIG, else ~/.config/lockdown/config.toml, else /etc/lockdown/config.toml: lockdown(1) has what stands there.

See also: lockdown(1), lockdownctl(1), ssh-keygen(1).";

/// Open SSH access to the hosts of a whole stack, and close it, from a laptop
///
/// Each command makes a document, shows it, has ssh-keygen(1) sign it with your own key, and hands it to the compliance API.
/// Hosts that run lockdownd(8) believe the signature, not who carried it. Closing is easy: one signature. Opening takes
/// as many people as the roster asks for.
#[derive(Debug, Parser)]
#[command(name = "lockdown", version, after_long_help = AFTER)]
pub(crate) struct Cli {
    /// Print JSON for programs instead of text for people; a refusal is printed as {"refusal": …}
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Which time zone to type and show times in: utc, or local (TZ, else /etc/localtime); --json is always in UTC
    #[arg(long, global = true, value_name = "ZONE", default_value = "utc")]
    pub(crate) time: Zone,
    /// The key to sign with: a private key file, a public one whose private half an agent or a device has, or the fingerprint
    /// of one that the agent has. Without it, `key` in the configuration, else the agent's key that the roster names
    #[arg(long, global = true, value_name = "KEY")]
    pub(crate) key: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What times are typed and shown in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Zone {
    /// UTC, as documents have it.
    Utc,
    /// The time zone of whoever asks.
    Local,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Allow(Allow),
    Request(Request),
    Requests(Requests),
    Approve(Approve),
    Deny(Deny),
    Revoke(Revoke),
    Lockdown(Lockdown),
    Lift(Lift),
    Status(Status),
    Who(WhoCan),
    Roster(Roster),
    Case(Case),
    Verify(Verify),
    /// Say what is missing here, and what would mend it
    ///
    /// Looks at the configuration, ssh-keygen, the agent, the server, and the roster. Nothing is changed; you may be asked to
    /// touch a security key, since the roster is given only to those who are in it. Exit status 1 if something is missing.
    Check,
    Generate(Generate),
}

/// Where a document goes, and how long to look at what becomes of it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Delivery {
    /// How long to wait for the hosts, such as 30s or 5m; 0s: not at all
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub(crate) wait: Duration,
    /// Write the signed document to FILE, or with - to standard output, instead of sending it: for `lockdownctl apply` on a host
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// What a grant says, beside whom it is for.
#[derive(Debug, Clone, Args)]
pub(crate) struct Terms {
    /// The stack
    #[arg(long, value_name = "STACK", add = ArgValueCandidates::new(complete::stacks))]
    pub(crate) stack: Stack,
    /// Only on this host: its name, the beginning of it, or its Name tag; may be given several times
    #[arg(long = "host", value_name = "HOST")]
    pub(crate) hosts: Vec<String>,
    /// The account to log in to; without it, the one named as the person, else the only one they may have there
    #[arg(long, value_name = "ACCOUNT", add = ArgValueCandidates::new(complete::accounts))]
    pub(crate) account: Option<AccountName>,
    /// For how long, such as 2h, 90m, 1h30m or 1d; without it 1h, or the longest that the rules allow if that is less
    #[arg(long = "for", value_name = "DURATION", value_parser = length)]
    pub(crate) duration: Option<Duration>,
    /// When it begins: RFC 3339 such as 2026-12-01T18:00:00Z, or HH:MM for the next such minute (see --time); without it, now
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<At>,
    /// Only from these addresses, such as 10.1.0.0/16; may be given several times
    #[arg(long, value_name = "CIDR")]
    pub(crate) from: Vec<Cidr>,
    /// For how long a host that is down now, or another approver, may still take it up; at most 24h. Without it, until it ends
    #[arg(long, value_name = "DURATION", value_parser = length)]
    pub(crate) accept_within: Option<Duration>,
    /// Why, in a few words: a ticket, an incident
    #[arg(long, value_name = "TEXT", default_value = "no reason given")]
    pub(crate) reason: Reason,
    /// Go by the roster in this file (as `roster sign` wrote it) and ask no server: for --out
    #[arg(long, value_name = "FILE", requires = "out")]
    pub(crate) roster: Option<PathBuf>,
}

/// Give a person leave to log in on every host of a stack
///
/// What cannot be is refused at once, with what would have worked. The grant is shown, signed with your key, and sent; then each
/// host is shown as it answers. Where the roster asks for more people, it says who can approve, and with which command.
///
/// Examples: lockdown allow frank --stack web --account ubuntu --for 2h --reason INC-42;
/// lockdown allow frank --stack web --host i-0ab --for 90m --at 18:00 --from 10.1.0.0/16
#[derive(Debug, Args)]
pub(crate) struct Allow {
    /// The person, as the roster has it
    #[arg(add = ArgValueCandidates::new(complete::people))]
    pub(crate) person: Person,
    #[command(flatten)]
    pub(crate) terms: Terms,
    #[command(flatten)]
    pub(crate) delivery: Delivery,
}

/// Ask for leave to log in, signed with a key that you log in with
///
/// Approvers see it with `lockdown requests` and sign the very same bytes with `lockdown approve`.
#[derive(Debug, Args)]
pub(crate) struct Request {
    #[command(flatten)]
    pub(crate) terms: Terms,
    /// Write the request to FILE instead of sending it: for `lockdown approve FILE`
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// List what waits for approval
#[derive(Debug, Args)]
pub(crate) struct Requests {
    /// Only on this stack
    #[arg(long, value_name = "STACK", add = ArgValueCandidates::new(complete::stacks))]
    pub(crate) stack: Option<Stack>,
}

/// Approve what somebody asked for, or what another approver signed first
#[derive(Debug, Args)]
pub(crate) struct Approve {
    /// Its id, as `lockdown requests` lists it, or the beginning of it; or a file with it
    #[arg(value_name = "ID|FILE")]
    pub(crate) id: String,
    /// Go by the roster in this file (as `roster sign` wrote it) and ask no server: for --out
    #[arg(long, value_name = "FILE", requires = "out")]
    pub(crate) roster: Option<PathBuf>,
    /// Sign what is found without asking first; a whole id says what is meant, and needs no question
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) delivery: Delivery,
}

/// Say no to what waits for approval
#[derive(Debug, Args)]
pub(crate) struct Deny {
    /// Its id, as `lockdown requests` lists it, or the beginning of it
    pub(crate) id: String,
    /// Why, in a few words
    #[arg(long, value_name = "TEXT", default_value = "denied")]
    pub(crate) reason: Reason,
}

/// End one grant on every host, now
///
/// Its keys stop working and its sessions are cut at once. It holds where the grant has not come yet, too.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// The grant: the id of its document, or the beginning of it, or its id on a host (g-…), as `lockdown who` lists them
    #[arg(value_name = "GRANT")]
    pub(crate) grant: String,
    /// Why, in a few words
    #[arg(long, value_name = "TEXT", default_value = "revoked")]
    pub(crate) reason: Reason,
    #[command(flatten)]
    pub(crate) delivery: Delivery,
}

/// End every grant and every granted session of a stack, or of one person, now
///
/// One signature, and nothing is asked beforehand. With --hold nobody in scope gets in again, by any grant, until
/// `lockdown lift`. A stolen laptop: lockdown lockdown --stack '*' --person frank --hold --reason "laptop stolen"
#[derive(Debug, Args)]
pub(crate) struct Lockdown {
    /// The stack, or '*' for every stack
    #[arg(long, value_name = "STACK", add = ArgValueCandidates::new(complete::stacks))]
    pub(crate) stack: StackPattern,
    /// Only on this host: its name, the beginning of it, or its Name tag; may be given several times
    #[arg(long = "host", value_name = "HOST")]
    pub(crate) hosts: Vec<String>,
    /// Only this person's grants, and those with a key of theirs
    #[arg(long, value_name = "PERSON", add = ArgValueCandidates::new(complete::people))]
    pub(crate) person: Option<Person>,
    /// Only grants with this key, as `ssh-keygen -l` prints it
    #[arg(long = "fingerprint", value_name = "FP")]
    pub(crate) fingerprint: Option<Fingerprint>,
    /// Keep it closed until a lift, also against `lockdownctl allow` and the hosts' configuration
    #[arg(long)]
    pub(crate) hold: bool,
    /// Why, in a few words
    #[arg(long, value_name = "TEXT", default_value = "no reason given")]
    pub(crate) reason: Reason,
    #[command(flatten)]
    pub(crate) delivery: Delivery,
}

/// End a lockdown that holds
///
/// It takes as many approvers as the strictest rule in its scope, or the keys that sign rosters. Where it takes several, the first
/// writes it with --out, and the others sign that very file with --add-to. What the lockdown had ended stays ended.
#[derive(Debug, Args)]
pub(crate) struct Lift {
    /// The lockdown's id, or the beginning of it, as `lockdown status` lists it
    pub(crate) id: String,
    /// Why, in a few words
    #[arg(long, value_name = "TEXT", default_value = "over")]
    pub(crate) reason: Reason,
    /// Sign this lift, which others have signed before, instead of a new one: a file that `--out` wrote
    #[arg(long, value_name = "FILE")]
    pub(crate) add_to: Option<PathBuf>,
    /// Sign what is found without asking first; a whole id says what is meant, and needs no question
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) delivery: Delivery,
}

/// Show hosts, their modes, grants, sessions, open ways in, and who is silent
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Only this stack
    #[arg(long, value_name = "STACK", add = ArgValueCandidates::new(complete::stacks))]
    pub(crate) stack: Option<Stack>,
    /// Go on showing it
    #[arg(long, short)]
    pub(crate) watch: bool,
}

/// Show who can get in now: where, until when, on whose word
#[derive(Debug, Args)]
pub(crate) struct WhoCan {
    /// Only this person
    #[arg(add = ArgValueCandidates::new(complete::people))]
    pub(crate) person: Option<Person>,
    /// Only on this stack
    #[arg(long, value_name = "STACK", add = ArgValueCandidates::new(complete::stacks))]
    pub(crate) stack: Option<Stack>,
}

/// Make, show, sign and publish the roster: who there is, who approves, by what rules
///
/// To begin: lockdown roster init roster.toml; edit it; lockdown roster sign roster.toml; lockdown roster publish roster.json
#[derive(Debug, Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Roster {
    #[command(subcommand)]
    pub(crate) command: RosterCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RosterCommand {
    /// Write a first draft, to be edited
    Init {
        /// The draft, in TOML
        #[arg(default_value = "roster.toml")]
        file: PathBuf,
    },
    /// Show the roster in force, or one in a file
    Show {
        /// A draft, or what `roster sign` wrote
        file: Option<PathBuf>,
        /// As a draft, to be edited
        #[arg(long)]
        draft: bool,
    },
    /// Open a draft of the roster in force in $VISUAL or $EDITOR, and show what changed
    Edit {
        /// The draft; it is made of the roster in force where it does not exist
        #[arg(default_value = "roster.toml")]
        file: PathBuf,
    },
    /// Show what a draft, or a signed roster, changes of the one in force
    Diff {
        /// A draft, or what `roster sign` wrote
        file: PathBuf,
    },
    /// Sign a draft, or add a signature to what somebody else has signed
    Sign {
        /// A draft (TOML), or what `roster sign` wrote (JSON)
        file: PathBuf,
        /// Where to; without it, FILE with the ending .json
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Do not ask the server what is in force; needs the version
        #[arg(long, requires = "version")]
        offline: bool,
        /// The version; without it, one more than the one in force
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
        version: Option<u64>,
        /// Sign what somebody else has signed without asking first
        #[arg(long, short)]
        yes: bool,
    },
    /// Send a signed roster to the server, and show each host as it takes it
    Publish {
        /// What `roster sign` wrote
        file: PathBuf,
        /// How long to wait for the hosts
        #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
        wait: Duration,
    },
}

/// Fetch a case file: all there is about a person or a host in a window, to be verified without the server
///
/// It takes an auditor's token (compliance-api token create --role auditor), in a file or in $COMPLIANCE_TOKEN. That it was asked
/// for is on record at the server. The file is a tar archive: index.html in it is for people, verify.sh for stock tools.
///
/// Example: lockdown case frank --from 2026-01-01 --to 2026-07-01 --token-file auditor.token -o case.tar
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("about").args(["person", "host"]).multiple(true).required(true)))]
pub(crate) struct Case {
    /// The person
    #[arg(add = ArgValueCandidates::new(complete::people))]
    pub(crate) person: Option<Person>,
    /// The host: every ledger of it
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<record::Host>,
    /// Only records of this stack
    #[arg(long, value_name = "STACK", add = ArgValueCandidates::new(complete::stacks))]
    pub(crate) stack: Option<Stack>,
    /// Not before this moment: RFC 3339, or a day such as 2026-01-01 for its beginning in UTC
    #[arg(long, value_name = "TIME")]
    pub(crate) from: String,
    /// Before this moment; without it, until now
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<String>,
    /// Where to; what is there already is not overwritten
    #[arg(long, short, value_name = "FILE", default_value = "case.tar")]
    pub(crate) out: PathBuf,
    /// A file with an auditor's token; without it, $COMPLIANCE_TOKEN
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

/// Verify a case file: what holds, what is missing, and what nobody can know
///
/// Works offline and without a configuration. Exit status 1 if anything is off.
///
/// Example: lockdown verify case.tar --server-key server.pub
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The case file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The server's public keys, one a line, or an allowed_signers file with them, from a place that you trust (GET /v1/server);
    /// without it the keys that the case itself names are taken, which shows that it is whole, and not whose it is
    #[arg(long, value_name = "FILE")]
    pub(crate) server_key: Option<PathBuf>,
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
    clap::Command::new("lockdown")
        .version(env!("CARGO_PKG_VERSION"))
        .about(about)
        .long_about(long_about)
        .disable_help_subcommand(true)
        .args(whole.get_arguments().cloned())
        .subcommands(whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned())
}

fn length(text: &str) -> Result<Duration, DurationError> {
    match parse_duration(text)? {
        Duration::ZERO => Err(DurationError { given: text.to_owned(), why: "it is no time at all" }),
        length => Ok(length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_commands_of_the_plan_are_read() {
        for line in [
            "lockdown allow frank --stack my-stack",
            "lockdown allow frank --stack web --host i-0ab --host web-2 --account ubuntu --for 2h --reason INC-42",
            "lockdown request --stack web --account ubuntu --for 2h --reason x",
            "lockdown requests",
            "lockdown approve 0abc",
            "lockdown deny 0abc",
            "lockdown revoke g-0123456789abcdef",
            "lockdown lockdown --stack web --person frank --hold --reason x",
            "lockdown lockdown --stack * --fingerprint SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "lockdown lift 0abc",
            "lockdown status --stack web --watch",
            "lockdown who frank --stack web",
            "lockdown roster init",
            "lockdown roster show --json",
            "lockdown roster sign roster.toml --key ~/.ssh/id",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_have_worked() {
        for (line, named) in [
            ("lockdown allow frank", "--stack <STACK>"),
            ("lockdown allow frank --stack web --for 2hours", "90m, 1h30m or 400d"),
            ("lockdown allow frank --stack web --for 0s", "no time at all"),
            ("lockdown allow frank --stack *", "1 to 64 of A-Z"),
            ("lockdown allow fränk --stack web", "starting with a letter or digit"),
            ("lockdown allow frank --stack web --account *", "not *"),
            ("lockdown lockdown", "--stack <STACK>"),
            ("lockdown allow frank --stack web --roster r.json", "--out <FILE>"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.to_string().contains(named), "{line}: {error}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn packaging_commands_are_not_in_the_help() {
        assert!(!Cli::command().render_long_help().to_string().contains("generate"));
    }
}
