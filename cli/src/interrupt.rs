//! Interrupts from the keyboard, none of them lost between two waits.

use std::io;

/// Takes over the interrupt from the keyboard for the rest of the process.
pub struct Interrupts {
    #[cfg(unix)]
    inner: tokio::signal::unix::Signal,
    #[cfg(windows)]
    inner: tokio::signal::windows::CtrlC,
}

impl Interrupts {
    /// From here on an interrupt no longer ends the process by itself.
    ///
    /// # Errors
    /// What the system said.
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
