//! Word to the service manager: systemd's `sd_notify` protocol on Linux, nothing elsewhere or
//! when the portal was not started by one.

#[cfg(target_os = "linux")]
use sd_notify::NotifyState;

/// The portal is ready, or has taken over a new configuration.
pub fn ready() {
    #[cfg(target_os = "linux")]
    notify(&[NotifyState::Ready]);
}

/// The portal reads its configuration anew; [`ready`] is the end of that.
pub fn reloading() {
    // systemd kills a service whose RELOADING comes without the time.
    #[cfg(target_os = "linux")]
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!("cannot read the monotonic clock: {error}"),
    }
}

/// The portal is about to end.
pub fn stopping() {
    #[cfg(target_os = "linux")]
    notify(&[NotifyState::Stopping]);
}

#[cfg(target_os = "linux")]
fn notify(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("cannot notify the service manager: {error}");
    }
}
