//! `compliance-api migrate`: all that is stored, from one engine to the other.

use std::path::PathBuf;

use clap::Args;

use super::owner;
use crate::{
    config::{Config, Database},
    identity,
    store::{
        self,
        moving::{self, To},
    },
};

/// How SQLite is named.
const SQLITE: &str = "sqlite:";

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The store.
    #[error("the store failed")]
    Store(#[from] store::Error),
    /// The key.
    #[error("the server's key cannot be used")]
    Key(#[from] identity::Error),
    /// The user.
    #[error("cannot act as the owner of the database")]
    Owner(#[from] owner::Error),
}

/// Where to.
#[derive(Debug, Args)]
pub(super) struct Wanted {
    /// postgresql://…, as in store.url, or sqlite:DIRECTORY
    #[arg(long, value_name = "URL")]
    to: String,
    /// As store.password_file
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// As store.ca_file
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// Moves all that is stored.
pub(super) fn run(wanted: Wanted, config: &Config) -> Result<(), Error> {
    owner::become_owner_of(&config.state)?;
    let to = match wanted.to.strip_prefix(SQLITE) {
        Some(directory) => To::Sqlite(PathBuf::from(directory)),
        None => To::Postgres(Database {
            url: wanted.to.clone(),
            password_file: wanted.password_file,
            ca_file: wanted.ca_file,
        }),
    };
    let mut last = String::new();
    let mut told = |table: &str, rows: u64| {
        if last != table || rows.is_multiple_of(100_000) {
            eprintln!("{table}: {rows} rows");
            table.clone_into(&mut last);
        }
    };
    let rows = moving::run(config, &to, &mut told)?;
    if let To::Sqlite(directory) = &to
        && *directory != config.state
        && let Some(key) = identity::held(&config.state)?
    {
        identity::keep(directory, &key)?;
    }
    eprintln!(
        "{rows} rows were moved and compared; configure the server for it, and never start it on the one before again"
    );
    println!("{}", wanted.to);
    Ok(())
}
