//! The key that signs receipts and the server's own ledger: replaced by its owner, never in silence.

use clap::Subcommand;

use crate::{
    config::Config,
    identity, own_ledger,
    store::{self, Store},
};

/// Receipts that are kept in one transaction: a server that runs meanwhile goes on storing in between.
const RECEIPTS_AT_A_TIME: u32 = 2000;

/// What can be done with the key.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the public key of the next one, made if there is none yet: for hosts to know it before it signs
    Next,
    /// Replace it: the next one signs from now on, and the one before is gone
    Rotate,
}

/// Does it.
pub(super) fn run(command: Command, config: &Config) -> Result<(), store::Error> {
    if matches!(command, Command::Next) {
        println!("{}", store::server_keys::line(&identity::next(&config.state)?)?);
        eprintln!(
            "add it to ship.api.receipt_keys of every host, beside the one in force; then: compliance-api server-key rotate"
        );
        return Ok(());
    }
    let store = Store::open(config)?;
    let done = rotate(&store, config);
    store.close();
    let fingerprint = done?;
    println!("{fingerprint}");
    eprintln!("the server's key was replaced; start the server anew: systemctl restart compliance-api");
    Ok(())
}

fn rotate(store: &Store, config: &Config) -> Result<String, store::Error> {
    while store.write_blocking(|w| w.keep_sealed_receipts(RECEIPTS_AT_A_TIME))? == RECEIPTS_AT_A_TIME {}
    let state = config.state.clone();
    let fingerprint = store.write_blocking(move |w| {
        // In here, so that of two processes that replace the key one at most takes the next.
        let next = identity::next(&state)?;
        own_ledger::rotate(w, &store::server_keys::line(&next)?)?;
        Ok(next.fingerprint(ssh_key::HashAlg::Sha256).to_string())
    })?;
    identity::put_next(&config.state)?;
    Ok(fingerprint)
}
