//! TCP listeners and connections.

use std::{cell::Cell, net::SocketAddr};

use bytes::{Buf, Bytes};

use crate::{
    Buffer, Errno, Op, Runtime,
    driver::{Output, SocketId},
};

/// A socket that takes connections; closed when dropped.
pub struct Listener {
    runtime: Runtime,
    socket: SocketId,
    address: SocketAddr,
}

/// A connection on its way from one shard to another. Dropping one leaks the connection: the
/// receiver has to [`Stream::attach`] it.
#[derive(Debug)]
pub struct SocketHandle {
    socket: SocketId,
    local: SocketAddr,
    peer: SocketAddr,
}

/// A TCP connection; closed when dropped.
pub struct Stream {
    runtime: Runtime,
    socket: SocketId,
    local: SocketAddr,
    peer: SocketAddr,
    /// It is this shard's, and nobody else's.
    attached: Cell<bool>,
}

impl Listener {
    /// Listens on `address`; port 0 takes a free one. A port that anybody else listens on is
    /// refused: there is no `SO_REUSEPORT`.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn bind(runtime: &Runtime, address: SocketAddr) -> Result<Listener, Errno> {
        let output = runtime.operate(Op::Listen { address }).await?;
        let Output::Listening(socket, address) = output else {
            panic!("the driver gave {output:?}")
        };
        Ok(Listener { runtime: runtime.clone(), socket, address })
    }

    /// The address it really has.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection.
    ///
    /// # Errors
    /// The operating system's, `EMFILE` among them: the listener stays usable.
    pub async fn accept(&self) -> Result<Stream, Errno> {
        let output = self.runtime.operate(Op::Accept { listener: self.socket }).await?;
        Ok(Stream::from_output(&self.runtime, output))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.runtime.operate_detached(Op::CloseSocket { socket: self.socket });
    }
}

impl Stream {
    /// Connects to `address`.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn connect(runtime: &Runtime, address: SocketAddr) -> Result<Stream, Errno> {
        let output = runtime.operate(Op::Connect { address }).await?;
        Ok(Stream::from_output(runtime, output))
    }

    fn from_output(runtime: &Runtime, output: Output) -> Stream {
        let Output::Connected { socket, local, peer } = output else {
            panic!("the driver gave {output:?}")
        };
        Stream { runtime: runtime.clone(), socket, local, peer, attached: Cell::new(true) }
    }

    /// Takes the connection off this shard; no operation on it may be in flight, or begin after it.
    ///
    /// # Panics
    /// If it was taken before.
    #[must_use]
    pub fn detach(&self) -> SocketHandle {
        assert!(self.attached.replace(false), "a connection goes to one shard");
        SocketHandle { socket: self.socket, local: self.local, peer: self.peer }
    }

    /// Takes a connection over on this shard.
    #[must_use]
    pub fn attach(runtime: &Runtime, handle: SocketHandle) -> Stream {
        let SocketHandle { socket, local, peer } = handle;
        Stream { runtime: runtime.clone(), socket, local, peer, attached: Cell::new(true) }
    }

    /// This end's address.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The peer's address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// What is there, at most `length` bytes, in a buffer that is taken only once bytes have come;
    /// empty at the end of the stream.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn receive(&self, length: usize) -> Result<Buffer, Errno> {
        assert!(length > 0, "a receive of nothing would look like the end of the stream");
        buffer(self.runtime.operate(Op::Receive { socket: self.socket, length }).await)
    }

    /// Fills `buffer` from byte `start` up to `end`. The length of what comes back is `end`, less
    /// only if the stream ended first.
    ///
    /// # Errors
    /// The operating system's; the buffer is lost with it.
    pub async fn receive_exact(
        &self,
        buffer_to_fill: Buffer,
        start: usize,
        end: usize,
    ) -> Result<Buffer, Errno> {
        assert!(start < end, "a receive of nothing would look like the end of the stream");
        assert!(end <= buffer_to_fill.capacity(), "a receive beyond the buffer");
        let op = Op::ReceiveExact { socket: self.socket, buffer: buffer_to_fill, start, end };
        buffer(self.runtime.operate(op).await)
    }

    /// Sends all slices, one behind the other.
    ///
    /// # Errors
    /// The operating system's: the connection is then of no further use.
    pub async fn send_all(&self, mut slices: Vec<Bytes>) -> Result<(), Errno> {
        slices.retain(|slice| !slice.is_empty());
        let mut rest: usize = slices.iter().map(Bytes::len).sum();
        while rest > 0 {
            // Clones of refcounted slices: the operation owns what it sends.
            let output =
                self.runtime.operate(Op::Send { socket: self.socket, slices: slices.clone() });
            let Output::Count(sent) = output.await? else { panic!("a send gives a count") };
            if sent == 0 {
                return Err(Errno::CONNECTION_RESET);
            }
            assert!(sent <= rest, "sent more than there was");
            rest -= sent;
            if rest > 0 {
                skip(&mut slices, sent);
            }
        }
        Ok(())
    }

    /// Ends both directions, so that a pending receive ends.
    pub fn shutdown(&self) {
        self.runtime.operate_detached(Op::Shutdown { socket: self.socket });
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.attached.get() {
            self.runtime.operate_detached(Op::CloseSocket { socket: self.socket });
        }
    }
}

fn buffer(result: Result<Output, Errno>) -> Result<Buffer, Errno> {
    let output = result?;
    let Output::Buffer(buffer) = output else { panic!("the driver gave {output:?}") };
    Ok(buffer)
}

/// Drops the first `count` bytes.
fn skip(slices: &mut Vec<Bytes>, mut count: usize) {
    let mut whole = 0;
    for slice in slices.iter_mut() {
        if count < slice.len() {
            slice.advance(count);
            break;
        }
        count -= slice.len();
        whole += 1;
    }
    slices.drain(..whole);
}
