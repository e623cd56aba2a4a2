//! What the server does by the clock, of several servers on one database one of them: writes gathered incidents each second,
//! looks for silent hosts each minute, and states where every chain stands as often as is configured.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};

use crate::{
    App,
    describe::describe,
    incidents::{Incident, Kind},
    noting, own_ledger,
    store::{Error, Tx, incidents::Wanted},
};

/// How often gathered incidents are written.
const GATHERED: Duration = Duration::from_secs(1);
/// How often silent hosts are looked for.
const SILENCE: Duration = Duration::from_secs(60);
/// Incidents of which people are told at a time; of more opened within a second, the newest.
const TOLD: u32 = 16;

/// Goes on until `stop` turns true; then writes what was gathered, and a last checkpoint.
pub async fn watch(app: Arc<App>, mut stop: watch::Receiver<bool>) {
    let every = |period| {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    };
    // While this was down, none could be heard.
    let heard_from = Instant::now() + app.config.limits.reader_silent_after;
    let mut feeders = tokio::time::interval_at(heard_from, SILENCE);
    feeders.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = i64::MAX;
    let (mut gathered, mut silent, mut checkpoint) =
        (every(GATHERED), every(SILENCE), every(app.config.checkpoint.every));
    loop {
        tokio::select! {
            _ = gathered.tick() => {
                app.gathered.write(&app.store).await;
                told = tell(&app, told).await;
            }
            _ = silent.tick() => if leads(&app).await {
                complain(app.store.write(note_silent).await);
            },
            _ = feeders.tick() => if let Some(documents) = app.documents.clone() && leads(&app).await {
                complain(app.store.write(move |tx| documents.note_silent_feeders(tx)).await);
            },
            _ = checkpoint.tick() => if leads(&app).await {
                complain(app.store.write(own_ledger::checkpoint).await);
            },
            () = stopped(&mut stop) => break,
        }
    }
    app.gathered.write(&app.store).await;
    complain(app.store.write(own_ledger::checkpoint).await);
}

/// Whether this is the server, of all on one database, that does what is due by the clock. Where that cannot be told, nobody is:
/// it is tried again with the next tick.
async fn leads(app: &App) -> bool {
    app.store.leads().await.unwrap_or_else(|error| {
        tracing::warn!(error = %describe(&error), "which server does what is due by the clock is not known");
        false
    })
}

/// Waits until `stop` turns true.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that whoever could stop us is gone: the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Tells of the incidents that were opened since the last one that was told of; nobody is told of those from before the
/// start, and of each by one server alone. Which is the last now.
async fn tell(app: &App, told: i64) -> i64 {
    if !app.hook.is_there() {
        return told;
    }
    let wanted = Wanted { open: None, kind: None, host: None, ledger: None, before: i64::MAX, most: TOLD };
    let newest = match app.store.readers().run(move |tx| tx.incidents(&wanted)).await {
        Ok(newest) => newest,
        Err(error) => {
            tracing::warn!(error = %describe(&error), "nobody was told of incidents; it is tried again");
            return told;
        }
    };
    let new: Vec<_> = newest.iter().rev().filter(|incident| incident.id > told).collect();
    if new.is_empty() || !leads(app).await {
        return newest.first().map_or(told.min(0), |newest| newest.id);
    }
    for incident in new {
        app.hook.tell_incident(incident);
    }
    newest.first().map_or(told.min(0), |newest| newest.id)
}

fn complain(done: Result<(), Error>) {
    if let Err(error) = done {
        tracing::error!(error = %describe(&error), "what is due by the clock was not done; it is tried again");
    }
}

/// Opens an incident for each host that should have been heard of. It ends when the host is heard of again.
///
/// # Errors
/// SQLite's.
pub fn note_silent(tx: &mut dyn Tx) -> Result<(), Error> {
    for host in tx.silent_hosts()? {
        if tx.is_incident_open(Kind::Silent, &host.name)? {
            continue;
        }
        let incident = Incident::new(Kind::Silent, &host.name)
            .host(&host.name)
            .ledger(&host.ledger)
            .with("last_seq", host.head_seq)
            .with("last_heard", host.heard.to_string())
            .with("due", host.due.to_string());
        noting::note(tx, &incident)?;
    }
    Ok(())
}
