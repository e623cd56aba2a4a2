//! Connections: how many there may be, from whom, and how long each may take its time.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use super::stall::Stall;
use crate::{auth::Peer, config::Limits, watch::stopped};

/// Headers of a request; more are refused with 431.
const MAX_HEADERS: usize = 64;
/// Bytes of a request's header; more are refused with 431.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// How long requests that were under way may take once the server stops.
const DRAIN: Duration = Duration::from_secs(10);
/// How long it waits after the kernel could not give it a connection: no descriptors, no memory.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// What bounds connections.
#[derive(Debug, Clone)]
pub struct Bounds {
    all: Arc<Semaphore>,
    per_address: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
    header: Duration,
    stall: Duration,
}

impl Bounds {
    /// From the configuration.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            all: Arc::new(Semaphore::new(limits.connections)),
            per_address: limits.connections_per_address,
            open: Arc::default(),
            header: limits.header_timeout,
            stall: limits.stall_timeout,
        }
    }

    /// A place for a connection from this address; none when it has as many as it may.
    fn place(&self, address: IpAddr, permit: OwnedSemaphorePermit) -> Option<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_insert(0);
        if *count >= self.per_address {
            return None;
        }
        *count += 1;
        Some(Place { address, open: Arc::clone(&self.open), _permit: permit })
    }
}

/// A connection's place; given back when it is dropped.
struct Place {
    address: IpAddr,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// Takes connections until `stop` turns true, then lets what is under way come to its end.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    bounds: Bounds,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&bounds.all).acquire_owned() => permit.expect("never closed"),
            () = stopped(&mut stop) => break,
        };
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    sleep(AFTER_FAILURE).await;
                    continue;
                }
            },
            () = stopped(&mut stop) => break,
        };
        while connections.try_join_next().is_some() {}
        let Some(place) = bounds.place(peer.ip(), permit) else {
            tracing::debug!(%peer, "more connections than one address may have");
            continue;
        };
        let (tls, router, bounds, stop) = (tls.clone(), router.clone(), bounds.clone(), stop.clone());
        connections.spawn(async move {
            connection(stream, peer, tls, router, &bounds, stop).await;
            drop(place);
        });
    }
    drop(listener);
    if timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!(count = connections.len(), "requests were cut off");
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    bounds: &Bounds,
    stop: watch::Receiver<bool>,
) {
    // Answers are small and written whole.
    let _ = stream.set_nodelay(true);
    let stream = Stall::new(stream, bounds.stall);
    let Some(tls) = tls else { return requests(stream, peer, router, bounds, stop).await };
    match timeout(bounds.header, tls.accept(stream)).await {
        Ok(Ok(stream)) => requests(stream, peer, router, bounds, stop).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS did not come about"),
        Err(_) => tracing::debug!(%peer, "TLS took too long"),
    }
}

async fn requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    router: Router,
    bounds: &Bounds,
    mut stop: watch::Receiver<bool>,
) {
    let service = router.map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection broke");
    }
}
