//! systemd's watchdog: it restarts the server when it does not hear of it in time.

use sd_notify::NotifyState;
use tokio::{sync::watch, time::interval};

use crate::{store::Store, watch::stopped};

/// Tells systemd that the server works, twice as often as it asks for, each time after the thread that writes has answered.
/// Without that thread nothing is taken in, whatever else still works.
pub(super) async fn keep(store: Store, mut stop: watch::Receiver<bool>) {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = interval(period / 2);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stopped(&mut stop) => return,
        }
        store.writer_answers().await;
        if let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
            tracing::warn!(%error, "systemd's watchdog could not be told");
        }
    }
}
