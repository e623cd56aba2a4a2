//! Connections: how many there may be, from whom, and how long each may take its time.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::ServiceExt as _;

use super::{
    places::{Place, Places},
    proxy,
    stall::Stall,
    tls::Certificates,
    waiting::{Answered, Asked, Turn, Waiting},
};
use crate::{auth::Peer, config::Config, network::Network, watch::stopped};

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
    places: Places<Network>,
    proxies: Arc<[IpAddr]>,
    waiting: Waiting,
    open: Gauge,
    header: Duration,
    stall: Duration,
}

impl Bounds {
    /// From the configuration. How many connections are open stands in `open`.
    #[must_use]
    pub fn new(config: &Config, open: Gauge) -> Self {
        let limits = &config.limits;
        Self {
            all: Arc::new(Semaphore::new(limits.connections)),
            places: Places::new(limits.connections_per_address),
            proxies: config.proxies.clone().into(),
            waiting: Waiting::default(),
            open,
            header: limits.header_timeout,
            stall: limits.stall_timeout,
        }
    }

    /// Whether connections from here say first whom they are from.
    fn is_proxy(&self, peer: SocketAddr) -> bool {
        self.proxies.contains(&peer.ip().to_canonical())
    }

    /// Room for one more among all. The oldest connection without a whole request makes it; where each has one, it is
    /// waited for.
    async fn room(&self) -> OwnedSemaphorePermit {
        let free = || Arc::clone(&self.all).acquire_owned();
        loop {
            if let Ok(permit) = Arc::clone(&self.all).try_acquire_owned() {
                return permit;
            }
            if self.waiting.cut_oldest() {
                return free().await.expect("never closed");
            }
            tokio::select! {
                permit = free() => return permit.expect("never closed"),
                () = self.waiting.one_more() => {}
            }
        }
    }
}

/// Takes connections until `stop` turns true, then lets what is under way come to its end.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Option<Arc<Certificates>>,
    router: Router,
    bounds: Bounds,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
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
        let from = if bounds.is_proxy(peer) {
            From::Proxy
        } else if let Some(place) = bounds.places.take(Network::of(peer.ip())) {
            From::Sender(place)
        } else {
            tracing::debug!(%peer, "more connections than one address may have");
            continue;
        };
        let permit = tokio::select! {
            permit = bounds.room() => permit,
            () = stopped(&mut stop) => break,
        };
        let (tls, router, bounds, stop) = (tls.clone(), router.clone(), bounds.clone(), stop.clone());
        // Here, so that ages follow the order of arrival.
        let turn = bounds.waiting.connected();
        let counted = Counted::one(&bounds.open);
        connections.spawn(async move {
            tokio::select! {
                () = connection(stream, peer, from, tls, router, &bounds, stop, &turn) => {}
                () = turn.cut() => tracing::debug!(%peer, "made room for another: it had no whole request"),
            }
            drop((permit, counted));
        });
    }
    drop(listener);
    if timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!(count = connections.len(), "requests were cut off");
    }
}

/// One that is counted for as long as it is there.
struct Counted(Gauge);

impl Counted {
    fn one(of: &Gauge) -> Self {
        of.inc();
        Self(of.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Whom a connection is from.
enum From {
    /// From the other end itself, which has a place.
    Sender(Place<Network>),
    /// From whom the proxy at the other end says.
    Proxy,
}

#[allow(clippy::too_many_arguments, reason = "all that a connection has")]
async fn connection(
    mut stream: TcpStream,
    mut peer: SocketAddr,
    from: From,
    tls: Option<Arc<Certificates>>,
    router: Router,
    bounds: &Bounds,
    stop: watch::Receiver<bool>,
    turn: &Arc<Turn>,
) {
    // Answers are small and written whole.
    let _ = stream.set_nodelay(true);
    let _place = match from {
        From::Sender(place) => place,
        From::Proxy => {
            match timeout(bounds.header, Box::pin(proxy::read(&mut stream))).await {
                Ok(Ok(said)) => peer = said.unwrap_or(peer),
                Ok(Err(error)) => return tracing::debug!(%peer, %error, "a proxy did not say whom it forwards"),
                Err(_) => return tracing::debug!(%peer, "a proxy took too long to say whom it forwards"),
            }
            let Some(place) = bounds.places.take(Network::of(peer.ip())) else {
                return tracing::debug!(%peer, "more connections than one address may have");
            };
            place
        }
    };
    let stream = Stall::new(stream, bounds.stall);
    // Thousands of connections wait for hours: what one needs for a moment, or not at all, has its memory for that long.
    match tls {
        None => requests(stream, peer, router, bounds, stop, turn).await,
        Some(tls) => Box::pin(secure(stream, peer, &tls, router, bounds, stop, turn)).await,
    }
}

async fn secure(
    stream: Stall<TcpStream>,
    peer: SocketAddr,
    tls: &Certificates,
    router: Router,
    bounds: &Bounds,
    stop: watch::Receiver<bool>,
    turn: &Arc<Turn>,
) {
    match timeout(bounds.header, Box::pin(tls.acceptor().accept(stream))).await {
        Ok(Ok(stream)) => requests(stream, peer, router, bounds, stop, turn).await,
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
    turn: &Arc<Turn>,
) {
    let (asked, answered) = (Arc::clone(turn), Arc::clone(turn));
    let service = router
        .map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            request.map(|body| Asked::new(body, Arc::clone(&asked)))
        })
        .map_response(move |response| response.map(|body| Answered::new(body, Arc::clone(&answered))));
    let mut connection = Box::pin(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(bounds.header)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)),
    );
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
