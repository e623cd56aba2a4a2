//! The server: from an address to answered requests.
//!
//! Every bound of a connection is set here. It never lets one client keep another from being served.

mod accept;
mod observed;
mod places;
mod proxy;
mod ready;
mod router;
mod stall;
mod tls;
mod waiting;
mod watchdog;

use std::{io, net::SocketAddr, sync::Arc};

use serde_json::Map;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch::{Receiver, channel},
};

pub use self::places::Places;
use self::tls::Certificates;
pub use self::{accept::Bounds, ready::Readiness, router::Described, tls::Error as TlsError};
pub(crate) use self::{places::Place, ready::left, router::Held};
use crate::{
    App,
    config::Config,
    describe::describe,
    documents::{self, Documents},
    metrics::Metrics,
    noting::Gathered,
    own_ledger::{self, By, Word},
    requirements::{Catalog, RequirementsError},
    store::{self, Store},
    watch::watch,
    webhook::{self, Hook},
};

/// Why the server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error("the store cannot be opened")]
    Store(#[from] store::Error),
    /// A file of requirements.
    #[error("the requirements cannot be used")]
    Requirements(#[from] RequirementsError),
    /// Whom to tell.
    #[error("the webhook cannot be used")]
    Webhook(#[from] webhook::Error),
    /// Certificates or keys.
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
    /// The address.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// Signals, threads.
    #[error("cannot {doing}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting.
pub fn run(config: Config) -> Result<(), Error> {
    let system = |doing| move |source| Error::System { doing, source };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(system("start its threads"))?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(system("wait for signals"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(system("wait for signals"))?;
        let (stop, stopped) = channel(false);
        let serving = serve(config, stopped, |address| {
            tracing::info!(%address, "serving");
            // Nobody waits for it outside of systemd.
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        });
        tokio::pin!(serving);
        tokio::select! {
            done = &mut serving => return done,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        tracing::info!("stopping");
        // Fails only when nobody listens: then it has stopped.
        let _ = stop.send(true);
        serving.await
    })
}

/// Serves until `stop` turns true; calls `ready` with the address once it listens.
///
/// # Errors
/// What keeps it from starting.
pub async fn serve(config: Config, stop: Receiver<bool>, ready: impl FnOnce(SocketAddr)) -> Result<(), Error> {
    let catalog = Catalog::load(Some(&config.requirements))?;
    let tls = config.tls.as_ref().map(Certificates::read).transpose()?.map(Arc::new);
    let hang_ups =
        signal(SignalKind::hangup()).map_err(|source| Error::System { doing: "wait for signals", source })?;
    let address = config.listen;
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    let address = listener.local_addr().map_err(|source| Error::Listen { address, source })?;
    let opening = config.clone();
    let store =
        tokio::task::spawn_blocking(move || Store::open(&opening)).await.map_err(|_| store::Error::Closed)??;
    // However many may wait, others get in.
    let polls = config.limits.polls.min(config.limits.connections / 4 * 3);
    let documents = config.stack.as_ref().map(|stack| Arc::new(Documents::new(stack, address, polls, stop.clone())));
    if let Some(documents) = &documents {
        documents.begin(&store).await?;
    }
    let hook = Hook::start(config.webhook.as_ref())?;
    let metrics = Metrics::new(&store);
    let sources = Places::new(config.limits.batches_per_source);
    let app = Arc::new(App {
        config,
        store,
        gathered: Gathered::default(),
        catalog,
        documents,
        hook,
        readiness: Readiness::default(),
        sources,
        signed_out: crate::pages::Ended::default(),
        metrics,
    });
    state(&app, Word::Started, "the server started").await?;
    ready(address);
    let bounds = Bounds::new(&app.config, app.metrics.connections.clone());
    let renewing = tokio::spawn(renew(hang_ups, tls.clone()));
    let watching = tokio::spawn(watch(Arc::clone(&app), stop.clone()));
    let listening = tokio::spawn(documents::listen(Arc::clone(&app), stop.clone()));
    let telling = tokio::spawn(watchdog::keep(app.store.clone(), stop.clone()));
    accept::accept(listener, tls, router::router(Arc::clone(&app)), bounds, stop).await;
    // Stopped by the same word; a panic of it is in the log.
    let _ = watching.await;
    let _ = listening.await;
    // systemd expects nothing more from a service that stops; a writer that hangs must not keep this one from stopping.
    telling.abort();
    renewing.abort();
    // Where the store takes nothing any more, as when its key was replaced, it stops all the same.
    if let Err(error) = state(&app, Word::Stopped, "the server stopped in good order").await {
        tracing::error!(error = %crate::describe::describe(&error), "the server's own ledger does not say that it stopped");
    }
    let closing = app.store.clone();
    tokio::task::spawn_blocking(move || closing.close()).await.map_err(|_| store::Error::Closed)?;
    Ok(())
}

/// Whether the server would start with this configuration, as far as can be told without the store and the address.
///
/// # Errors
/// What would keep it from starting.
pub fn check(config: &Config) -> Result<(), Error> {
    Catalog::load(Some(&config.requirements))?;
    config.tls.as_ref().map(Certificates::read).transpose()?;
    config.webhook.as_ref().map(webhook::check).transpose()?;
    Ok(())
}

/// Reads certificates again at each SIGHUP.
async fn renew(mut hang_ups: Signal, tls: Option<Arc<Certificates>>) {
    while hang_ups.recv().await.is_some() {
        let Some(tls) = tls.clone() else { continue };
        match tokio::task::spawn_blocking(move || tls.read_again()).await {
            Ok(Ok(())) => tracing::info!("certificates were read again"),
            Ok(Err(error)) => {
                tracing::error!(error = %describe(&error), "certificates cannot be used: those before stay in force");
            }
            Err(error) => tracing::error!(%error, "certificates were not read again"),
        }
    }
}

async fn state(app: &App, word: Word, reason: &'static str) -> Result<(), store::Error> {
    let mut detail = Map::new();
    detail.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
    app.store.write(move |tx| own_ledger::state(tx, word, &By::Server, reason, detail.clone())).await
}
