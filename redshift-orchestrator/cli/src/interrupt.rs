//! Receives Ctrl-C and SIGTERM.

use redshift_orchestrator::{Error, ErrorKind, Result};

/// Stream of interrupts, beginning when it is created.
#[cfg(unix)]
pub(crate) struct Interrupts {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Interrupts {
    pub(crate) fn register() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let register = |kind| signal(kind).map_err(unavailable);
        Ok(Self {
            interrupt: register(SignalKind::interrupt())?,
            terminate: register(SignalKind::terminate())?,
        })
    }

    /// Waits for the next interrupt.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
pub(crate) struct Interrupts;

#[cfg(not(unix))]
impl Interrupts {
    pub(crate) fn register() -> Result<Self> {
        Ok(Self)
    }

    pub(crate) async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}

#[cfg_attr(not(unix), expect(dead_code))]
fn unavailable(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Other, "signals cannot be received").with_source(error)
}
