//! Cuts a connection's bytes into frames: a size of four bytes, then so many bytes.
//!
//! A frame is handed out as a slice of the buffer that it was received into. Small frames share a
//! buffer that the driver provides once bytes have come. A large one is received into a buffer of
//! its own; its first bytes would have to be copied out of a small buffer, so after a large frame
//! only the next size is asked for, and a steady producer's record bytes are never copied here.
//!
//! Memory is never spent on a claim: a buffer as large as the claim is taken only by a connection
//! that has sent a frame of half that size before; another one's buffer doubles as its bytes come.
//!
//! Only a produce may be large: the records that make it so are slices, but any other request is
//! decoded into structs that take more memory than its bytes.
//!
//! Cost: a receive a small frame (or fewer, when pipelined); two a large one.

use std::{fmt, rc::Rc};

use bytes::{Bytes, BytesMut};
use runtime::{Errno, Instant, Runtime, Stream};
use wire::{api::ApiKey, frame::SIZE_BYTES};

/// Frames up to this are received into shared buffers: what the driver provides.
pub(crate) const SMALL_BYTES: usize = 16 << 10;
/// Bytes of the API key, the first of a frame.
const KEY_BYTES: usize = 2;
/// The largest frame that is not a produce. Decoding one may cost 64 bytes for each of its bytes
/// (arrays of tiny elements), so the 100 MiB of `socket.request.max.bytes` would cost gigabytes.
/// The largest that clients have reason to send fit many times over: a fetch of 100,000
/// partitions without a session takes 5 MiB, a group's leader hands out assignments that have to
/// fit one record of `__consumer_offsets`, 1 MiB.
const OTHER_BYTES_MAX: usize = 8 << 20;

/// Why a connection cannot go on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// The peer closed it, between two frames.
    Closed,
    /// It ended inside a frame.
    CutOff,
    /// A size that is negative or above `socket.request.max.bytes`.
    BadSize(i32),
    /// A size above [`OTHER_BYTES_MAX`] of a request that is no produce.
    TooLarge { key: i16, size: i32 },
    /// The operating system's.
    Io(Errno),
}

/// A request as it was received.
pub(crate) struct Frame {
    /// Without its size.
    pub(crate) bytes: Bytes,
    /// When its first byte was there.
    pub(crate) began: Instant,
}

pub(crate) struct FrameReader {
    runtime: Runtime,
    stream: Rc<Stream>,
    kept: Kept,
    size_max: usize,
}

/// What a reader knows of its connection beside the socket, which goes with it to another shard.
#[derive(Default)]
pub(crate) struct Kept {
    /// A frame that was handed out, and not begun.
    frame: Option<Frame>,
    /// Received and not handed out yet.
    held: Bytes,
    /// When the last of what is held was received.
    received: Instant,
    /// The largest frame of this connection so far: what it is trusted with.
    largest: usize,
    last: usize,
}

impl fmt::Debug for Kept {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Kept").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

impl FrameReader {
    /// Reads frames of at most `size_max` bytes, from where an earlier reader of the connection
    /// ended.
    pub(crate) fn new(
        runtime: &Runtime,
        stream: Rc<Stream>,
        kept: Kept,
        size_max: usize,
    ) -> FrameReader {
        FrameReader { runtime: runtime.clone(), stream, kept, size_max }
    }

    /// Ends, with a frame that is left to whoever goes on.
    pub(crate) fn end(self, frame: Frame) -> Kept {
        Kept { frame: Some(frame), ..self.kept }
    }

    /// The next frame.
    pub(crate) async fn next(&mut self) -> Result<Frame, FrameError> {
        if let Some(frame) = self.kept.frame.take() {
            return Ok(frame);
        }
        let held_since = (!self.kept.held.is_empty()).then_some(self.kept.received);
        self.hold(SIZE_BYTES).await?;
        let began = held_since.unwrap_or(self.kept.received);
        let size = self.kept.held.split_to(SIZE_BYTES);
        let size = i32::from_be_bytes(size[..].try_into().expect("four bytes"));
        let length = usize::try_from(size).map_err(|_| FrameError::BadSize(size))?;
        if length > self.size_max {
            return Err(FrameError::BadSize(size));
        }
        if length > OTHER_BYTES_MAX {
            self.kept.last = length;
            self.hold(KEY_BYTES).await?;
            let key =
                i16::from_be_bytes(self.kept.held[..KEY_BYTES].try_into().expect("two bytes"));
            if ApiKey::try_from(key) != Ok(ApiKey::Produce) {
                return Err(FrameError::TooLarge { key, size });
            }
        }
        let frame = if self.kept.held.len() >= length {
            self.kept.held.split_to(length)
        } else {
            self.receive_rest(length).await?
        };
        self.kept.largest = self.kept.largest.max(length);
        self.kept.last = length;
        Ok(Frame { bytes: frame, began })
    }

    /// Receives until `count` bytes are held, a size or a key, or small frames with them.
    async fn hold(&mut self, count: usize) -> Result<(), FrameError> {
        while self.kept.held.len() < count {
            let missing = count - self.kept.held.len();
            let length = if self.kept.last > SMALL_BYTES { missing } else { SMALL_BYTES };
            let received = self.stream.receive(length).await.map_err(FrameError::Io)?;
            if received.is_empty() {
                let clean = self.kept.held.is_empty() && count == SIZE_BYTES;
                return Err(if clean { FrameError::Closed } else { FrameError::CutOff });
            }
            let received = received.freeze();
            // Of a size in parts, the first byte is not much older than its last.
            self.kept.received = self.runtime.now();
            self.kept.held = if self.kept.held.is_empty() {
                received
            } else {
                // Less than a size is held: three bytes at most, and what came behind them.
                let mut both = BytesMut::with_capacity(self.kept.held.len() + received.len());
                both.extend_from_slice(&self.kept.held);
                both.extend_from_slice(&received);
                both.freeze()
            };
        }
        Ok(())
    }

    /// Receives the rest of a frame of `length` bytes whose start is held, and nothing behind it.
    async fn receive_rest(&mut self, length: usize) -> Result<Bytes, FrameError> {
        let trusted = SMALL_BYTES.max(self.kept.largest.saturating_mul(2));
        let mut end = length.min(trusted.max(self.kept.held.len() * 2));
        let mut buffer = self.runtime.pool().take(end);
        buffer.append(&self.kept.held);
        self.kept.held = Bytes::new();
        loop {
            let start = buffer.len();
            buffer = self.stream.receive_exact(buffer, start, end).await.map_err(FrameError::Io)?;
            if buffer.len() < end {
                return Err(FrameError::CutOff);
            }
            if end == length {
                return Ok(buffer.freeze());
            }
            end = length.min(end * 2);
            if end > buffer.capacity() {
                let mut larger = self.runtime.pool().take(end);
                larger.append(&buffer);
                buffer = larger;
            }
        }
    }
}
