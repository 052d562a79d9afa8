//! A client that keeps a connection: it connects when it has to, and again after a failure.

use std::{cell::RefCell, net::SocketAddr, time::Duration};

use runtime::{Instant, Runtime};

use crate::{Connection, Error, Options, Result};

/// The pause before a retry: short, as a broker is back within milliseconds.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause, reached by doubling.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// A broker's address, and a connection to it while there is one.
pub struct Client {
    runtime: Runtime,
    address: SocketAddr,
    options: Options,
    connection: RefCell<Option<Connection>>,
}

impl Client {
    /// A client that has not connected yet.
    #[must_use]
    pub fn new(runtime: &Runtime, address: SocketAddr, options: Options) -> Client {
        Client { runtime: runtime.clone(), address, options, connection: RefCell::new(None) }
    }

    /// The runtime that it runs on.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The connection, a new one if the last has ended.
    ///
    /// # Errors
    /// Those of [`Connection::connect`].
    pub async fn connection(&self) -> Result<Connection> {
        let current = self.connection.borrow().clone();
        if let Some(connection) = current.filter(|connection| !connection.is_closed()) {
            return Ok(connection);
        }
        let connection =
            Connection::connect(&self.runtime, self.address, self.options.clone()).await?;
        *self.connection.borrow_mut() = Some(connection.clone());
        Ok(connection)
    }

    /// Closes the connection; the next call makes a new one.
    pub fn disconnect(&self) {
        self.connection.borrow_mut().take();
    }

    /// Does `call` until it succeeds or fails for good, at most until `deadline`, on a new
    /// connection after each that broke.
    ///
    /// # Errors
    /// The final error, or the last retriable one before the deadline.
    pub async fn retry_until<T>(
        &self,
        deadline: Instant,
        call: impl AsyncFn(Connection) -> Result<T>,
    ) -> Result<T> {
        let mut pause = RETRY_PAUSE;
        loop {
            let attempt = async {
                let connection = self.connection().await?;
                call(connection).await
            };
            let error = match self.runtime.deadline(deadline, attempt).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => error,
                Err(_) => Error::TimedOut,
            };
            if error.is_of_connection() {
                self.disconnect();
            }
            if !error.is_retriable() || self.runtime.now() + pause >= deadline {
                return Err(error);
            }
            self.runtime.sleep(pause).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }
}
