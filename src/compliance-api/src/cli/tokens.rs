//! `compliance-api token …`: tokens on the server's database, whether it runs or not.

use clap::{Args, Subcommand};
use jiff::{Span, SpanRelativeTo, Timestamp};
use record::Stack;

use crate::{
    admin::{self, Wanted},
    config::Config,
    own_ledger::By,
    store::{self, Store, tokens::TokenRow},
    token::Role,
};

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make one; its text is printed once, and cannot be had again
    Create(Create),
    /// List all there ever were
    List,
    /// End one at once
    Revoke {
        /// Its id, as `token list` prints it
        id: String,
    },
}

/// A token that is wanted.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// What it lets its bearer do
    #[arg(long)]
    role: Role,
    /// enrol: of this stack's hosts
    #[arg(long)]
    stack: Option<Stack>,
    /// enrol: how many hosts it binds [default: any number]
    #[arg(long, value_name = "N")]
    uses: Option<u64>,
    /// When it ends: 2027-01-31T12:00:00Z, or from now on: 30d, 12h [default: never]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    expires: Option<Timestamp>,
    /// client: posts as /clients/NAME; else what it is for
    #[arg(long)]
    name: Option<String>,
    /// client: may post this type alone; may be given several times [default: any of its own]
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
}

fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse() {
        return Ok(moment);
    }
    let span: Option<Span> = text.parse().ok();
    span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok())
        .filter(|duration| duration.is_positive())
        .and_then(|duration| Timestamp::now().checked_add(duration).ok())
        .ok_or_else(|| "write a moment as 2027-01-31T12:00:00Z, or a time from now as 30d or 12h".to_owned())
}

/// Why a command did not do what it says.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The store.
    #[error("the store failed")]
    Store(#[from] store::Error),
    /// A token that makes no sense.
    #[error("{0}")]
    Wanted(String),
    /// No such token.
    #[error("no token in force has the id {0:?}; `compliance-api token list` lists them")]
    Unknown(String),
}

/// Does it.
pub(super) fn run(command: Command, config: &Config) -> Result<(), Error> {
    let store = Store::open(config)?;
    let done = with(&store, command);
    store.close();
    done
}

fn with(store: &Store, command: Command) -> Result<(), Error> {
    match command {
        Command::Create(create) => {
            let wanted = Wanted {
                role: create.role,
                name: create.name,
                stack: create.stack,
                types: (!create.types.is_empty()).then_some(create.types),
                uses: create.uses,
                expires: create.expires,
            };
            wanted.check(Timestamp::now()).map_err(Error::Wanted)?;
            let (row, token) = store.write_blocking(move |w| admin::make_token(w, &By::CommandLine, wanted.clone()))?;
            eprintln!("token {} of role {}; this is the only time its text is shown:", row.id, row.role);
            println!("{}", token.reveal());
        }
        Command::List => {
            for row in store.write_blocking(|w| w.tokens())? {
                println!("{}", line(&row));
            }
        }
        Command::Revoke { id } => {
            let named = id.clone();
            if !store.write_blocking(move |w| admin::end_token(w, &By::CommandLine, &id))? {
                return Err(Error::Unknown(named));
            }
        }
    }
    Ok(())
}

fn line(row: &TokenRow) -> String {
    let mut text = format!("{} {:<7} {}", row.id, row.role.as_str(), row.name);
    if let Some(stack) = &row.stack {
        text.push_str(&format!(" stack={stack}"));
    }
    if let Some(types) = &row.types {
        text.push_str(&format!(" types={}", types.join(",")));
    }
    if let Some(uses) = row.uses {
        text.push_str(&format!(" uses={uses}"));
    }
    if let Some(end) = row.expires {
        text.push_str(&format!(" expires={end:.0}"));
    }
    if let Some(end) = row.revoked {
        text.push_str(&format!(" revoked={end:.0}"));
    }
    text
}
