//! `compliance-api token …`: tokens on the server's database, whether it runs or not.

use clap::{Args, Subcommand};
use jiff::{Span, SpanRelativeTo, Timestamp};
use record::Stack;

use crate::{
    admin::{self, Ends, Wanted},
    config::Config,
    own_ledger::By,
    read::params,
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
    /// enrol: of this stack's hosts; auditor: reads about this stack alone [default: about all]
    #[arg(long)]
    stack: Option<Stack>,
    /// enrol: how many hosts it binds [default: any number]
    #[arg(long, value_name = "N")]
    uses: Option<u64>,
    /// auditor: reads evidence from this moment on alone: 2026-01-01T00:00:00Z, or a day for its beginning in UTC
    #[arg(long, value_name = "TIME", value_parser = day)]
    from: Option<Timestamp>,
    /// auditor: reads evidence from before this moment alone
    #[arg(long, value_name = "TIME", value_parser = day)]
    to: Option<Timestamp>,
    /// When it ends: 2027-01-31T12:00:00Z, from now on: 30d, 12h, or never [default: limits.token_life, 90d]
    #[arg(long, value_name = "TIME", value_parser = ends)]
    expires: Option<Ends>,
    /// client: posts as /clients/NAME; else what it is for
    #[arg(long)]
    name: Option<String>,
    /// client: may post this type alone; may be given several times [default: any of its own]
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
}

fn day(text: &str) -> Result<Timestamp, String> {
    params::moment("this", text).map_err(|problem| problem.detail().to_owned())
}

fn ends(text: &str) -> Result<Ends, String> {
    if text == "never" { Ok(Ends::Never) } else { moment(text).map(Ends::At) }
}

fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse() {
        return Ok(moment);
    }
    let span: Option<Span> = text.parse().ok();
    span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok())
        .filter(|duration| duration.is_positive())
        .and_then(|duration| Timestamp::now().checked_add(duration).ok())
        .ok_or_else(|| "write a moment as 2027-01-31T12:00:00Z, a time from now as 30d or 12h, or never".to_owned())
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
                from: create.from,
                to: create.to,
                types: (!create.types.is_empty()).then_some(create.types),
                uses: create.uses,
                expires: create.expires,
            };
            wanted.check(Timestamp::now()).map_err(Error::Wanted)?;
            let (row, token) = store.write_blocking(move |w| admin::make_token(w, &By::CommandLine, wanted.clone()))?;
            let ends = row.expires.map_or_else(|| "it never ends".to_owned(), |at| format!("it ends at {at:.0}"));
            eprintln!("token {} of role {}; {ends}; this is the only time its text is shown:", row.id, row.role);
            println!("{}", token.reveal());
        }
        Command::List => {
            let rows = store.write_blocking(|w| w.tokens())?;
            print!("{}", table(&rows, Timestamp::now()));
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

const HEADER: [&str; 7] = ["ID", "ROLE", "NAME", "CREATED", "ENDS", "LAST USED", "FOR"];

/// The list for people, times in UTC and to the minute.
fn table(rows: &[TokenRow], now: Timestamp) -> String {
    if rows.is_empty() {
        return "no tokens; compliance-api token create makes one\n".to_owned();
    }
    let lines: Vec<[String; 7]> =
        std::iter::once(HEADER.map(str::to_owned)).chain(rows.iter().map(|row| cells(row, now))).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADER.len()).map(width).collect();
    let one = |line: &[String; 7]| {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    lines.iter().map(one).collect()
}

fn cells(row: &TokenRow, now: Timestamp) -> [String; 7] {
    let minute = |moment: Timestamp| moment.strftime("%Y-%m-%d %H:%M").to_string();
    let ends = match (row.revoked, row.expires) {
        (Some(at), _) => format!("revoked {}", minute(at)),
        (None, Some(at)) if at <= now => format!("ended {}", minute(at)),
        (None, at) => at.map_or_else(|| "never".to_owned(), minute),
    };
    let stack = row.stack.as_ref().map(|stack| format!("stack {stack}"));
    let uses = row.uses.map(|uses| format!("{uses} more"));
    let types = row.types.as_ref().map(|types| types.join(" "));
    let from = row.from.map(|from| format!("from {}", minute(from)));
    let to = row.to.map(|to| format!("to {}", minute(to)));
    let what: Vec<String> = [stack, from, to, uses, types].into_iter().flatten().collect();
    [
        row.id.clone(),
        row.role.to_string(),
        row.name.clone(),
        minute(row.created),
        ends,
        row.used.map_or_else(|| "never".to_owned(), minute),
        if what.is_empty() { "-".to_owned() } else { what.join(", ") },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_stand_under_headings_with_their_end_and_their_last_use() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let enrol = TokenRow {
            id: "b7281372b41efc4e".to_owned(),
            role: Role::Enrol,
            name: "enrol".to_owned(),
            stack: Some("web".parse().unwrap()),
            from: None,
            to: None,
            types: None,
            uses: Some(3),
            created: at("2026-11-23T17:00:30Z"),
            expires: Some(at("2026-12-23T17:00:00Z")),
            revoked: None,
            used: None,
        };
        let ann = TokenRow {
            role: Role::Auditor,
            name: "ann".to_owned(),
            stack: Some("web".parse().unwrap()),
            from: Some(at("2026-01-01T00:00:00Z")),
            to: Some(at("2026-07-01T00:00:00Z")),
            uses: None,
            expires: Some(at("2026-11-23T17:30:00Z")),
            used: Some(at("2026-11-23T17:00:00Z")),
            ..enrol.clone()
        };
        let gone = TokenRow { revoked: Some(at("2026-11-23T17:10:00Z")), ..ann.clone() };
        let shown = table(&[enrol, ann, gone], at("2026-11-23T18:00:00Z"));
        assert_eq!(
            shown,
            "\
ID                ROLE     NAME   CREATED           ENDS                      LAST USED         FOR
b7281372b41efc4e  enrol    enrol  2026-11-23 17:00  2026-12-23 17:00          never             stack web, 3 more
b7281372b41efc4e  auditor  ann    2026-11-23 17:00  ended 2026-11-23 17:30    2026-11-23 17:00  stack web, from 2026-01-01 00:00, to 2026-07-01 00:00
b7281372b41efc4e  auditor  ann    2026-11-23 17:00  revoked 2026-11-23 17:10  2026-11-23 17:00  stack web, from 2026-01-01 00:00, to 2026-07-01 00:00
"
        );
        assert!(table(&[], at("2026-11-23T18:00:00Z")).starts_with("no tokens; "));
    }
}
