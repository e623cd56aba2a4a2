//! SIGHUP, SIGTERM and SIGINT as reasons.

use std::io;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::Reason;

/// Sends a reason for each signal, for as long as somebody receives.
///
/// # Errors
/// A handler cannot be installed (sigaction(2)).
pub fn listen_for_signals(reasons: &mpsc::Sender<Reason>) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let reasons = reasons.clone();
    tokio::spawn(async move {
        loop {
            let reason = tokio::select! {
                _ = hangup.recv() => Reason::Reload,
                _ = terminate.recv() => Reason::Stop,
                _ = interrupt.recv() => Reason::Stop,
            };
            if reasons.send(reason).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}
