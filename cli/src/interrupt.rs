//! Interrupts from the keyboard. None is lost between two waits.

use std::io;

/// Handles the keyboard interrupt for the rest of the process.
pub struct Interrupts {
    #[cfg(unix)]
    inner: tokio::signal::unix::Signal,
    #[cfg(windows)]
    inner: tokio::signal::windows::CtrlC,
}

impl Interrupts {
    /// From now on an interrupt does not end the process by itself.
    ///
    /// # Errors
    /// The system's error.
    pub fn new() -> io::Result<Self> {
        #[cfg(unix)]
        let inner = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
        #[cfg(windows)]
        let inner = tokio::signal::windows::ctrl_c()?;
        Ok(Self { inner })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        if self.inner.recv().await.is_none() {
            std::future::pending().await
        }
    }
}
