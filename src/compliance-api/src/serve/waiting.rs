//! Connections without a whole request. They cost whoever holds them nothing, so when there is no room for a new connection
//! the oldest of them goes.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::sync::Notify;

/// Who waits for the rest of a request, the oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting(Arc<Mutex<Ages>>, Arc<Notify>);

#[derive(Debug, Default)]
struct Ages {
    next: u64,
    waiting: BTreeMap<u64, Arc<Notify>>,
}

impl Waiting {
    fn ages(&self) -> MutexGuard<'_, Ages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection, which has no request yet.
    pub(super) fn connected(&self) -> Arc<Turn> {
        let turn = Turn { among: self.clone(), age: Mutex::default(), cut: Arc::default() };
        turn.waits();
        Arc::new(turn)
    }

    /// Cuts the one that has waited longest; false when none waits.
    pub(super) fn cut_oldest(&self) -> bool {
        let oldest = self.ages().waiting.pop_first();
        oldest.inspect(|(_, cut)| cut.notify_one()).is_some()
    }

    /// Returns when one begins to wait.
    pub(super) async fn one_more(&self) {
        self.1.notified().await;
    }
}

/// Whose turn it is on a connection: the client's, to send a request, or the server's, to answer it.
#[derive(Debug)]
pub(super) struct Turn {
    among: Waiting,
    age: Mutex<Option<u64>>,
    cut: Arc<Notify>,
}

impl Turn {
    /// The next request, or the rest of one, is waited for.
    fn waits(&self) {
        let mut age = self.age.lock().unwrap_or_else(PoisonError::into_inner);
        if age.is_none() {
            let mut ages = self.among.ages();
            ages.next += 1;
            let next = ages.next;
            ages.waiting.insert(next, Arc::clone(&self.cut));
            *age = Some(next);
            self.among.1.notify_one();
        }
    }

    /// There is a whole request.
    fn has_request(&self) {
        if let Some(age) = self.age.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.among.ages().waiting.remove(&age);
        }
    }

    /// Returns when the connection has to make room.
    pub(super) async fn cut(&self) {
        self.cut.notified().await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.has_request();
    }
}

/// The body of a request: once it is whole, the request is.
pub(super) struct Asked {
    body: Incoming,
    turn: Arc<Turn>,
}

impl Asked {
    pub(super) fn new(body: Incoming, turn: Arc<Turn>) -> Self {
        if body.is_end_stream() {
            turn.has_request();
        }
        Self { body, turn }
    }
}

impl Body for Asked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.turn.has_request();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer: once it is sent or given up, the next request is waited for.
pub(super) struct Answered {
    body: axum::body::Body,
    turn: Arc<Turn>,
}

impl Answered {
    pub(super) fn new(body: axum::body::Body, turn: Arc<Turn>) -> Self {
        Self { body, turn }
    }
}

impl Body for Answered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.turn.waits();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_without_a_request_goes_and_one_with_a_request_stays() {
        let waiting = Waiting::default();
        let [first, second, third] = [(); 3].map(|()| waiting.connected());
        first.has_request();
        assert!(waiting.cut_oldest());
        first.waits();
        assert!(waiting.cut_oldest());
        let left: Vec<_> = waiting.ages().waiting.values().cloned().collect();
        assert!(left.len() == 1 && Arc::ptr_eq(&left[0], &first.cut), "it waits since its last answer");
        drop((second, third));
        drop(first);
        assert!(!waiting.cut_oldest(), "who is gone is forgotten");
    }
}
