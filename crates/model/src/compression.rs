//! The four codecs of record batches, in pieces and with a limit.
//!
//! ```text
//!   gzip    RFC 1952, one member or several
//!   snappy  xerial's framing: 82 "SNAPPY" 00, version i32, oldest reader i32, then blocks of
//!           length i32 and raw snappy; a producer may also send one raw block
//!   lz4     LZ4 frames
//!   zstd    RFC 8878
//! ```
//! What comes from outside is never believed about its size: a [`Decompressor`] gives bytes as it
//! goes and ends with [`CompressionError::TooLarge`] at the limit, so a bomb costs no more memory
//! than that. A caller that may not hold its thread for long takes a piece at a time.

use std::{
    fmt,
    io::{self, Read, Write},
};

use flate2::{read::MultiGzDecoder, write::GzEncoder};
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use crate::record_batch::Compression;

/// What xerial's framing begins with.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// The magic, the version and the oldest version that can read it.
const XERIAL_HEADER_BYTES: usize = 16;
/// How much a block of xerial's framing holds, as Kafka's clients write it.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;
/// Snappy's copies give at most 64 bytes for 3: a length beyond this is a lie.
const SNAPPY_RATIO_MAX: usize = 22;
/// The largest zstd window: what the reference decoder takes by default. Its memory is touched
/// only as far as bytes come out.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Kafka's default level of zstd.
pub const ZSTD_LEVEL: i32 = 3;
/// Stands for a codec's own level: gzip's by default.
pub const OWN_LEVEL: i32 = -1;
/// How much [`decompress`] asks for at a time.
const STEP_BYTES: usize = 64 << 10;

/// Why something cannot be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionError {
    /// More bytes come out than the caller takes.
    TooLarge {
        /// What is allowed.
        max: usize,
    },
    /// It is not what its codec writes, or ends too early.
    Malformed(Compression),
}

impl fmt::Display for CompressionError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompressionError::TooLarge { max } => {
                write!(formatter, "more than {max} bytes when decompressed")
            }
            CompressionError::Malformed(codec) => write!(formatter, "no whole {codec:?} stream"),
        }
    }
}

impl std::error::Error for CompressionError {}

/// Gives the bytes of a compressed stream, piece by piece.
pub struct Decompressor<'a> {
    codec: Compression,
    source: Source<'a>,
    given: usize,
    max: usize,
}

enum Source<'a> {
    Plain(&'a [u8]),
    Gzip(Box<MultiGzDecoder<&'a [u8]>>),
    Snappy(Snappy<'a>),
    Lz4(Box<FrameDecoder<&'a [u8]>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, &'a [u8]>>),
}

impl<'a> Decompressor<'a> {
    /// Reads `bytes`, of which no more than `max` may come out.
    ///
    /// # Errors
    /// [`CompressionError::Malformed`] where not even the start makes sense.
    pub fn new(
        codec: Compression,
        bytes: &'a [u8],
        max: usize,
    ) -> Result<Decompressor<'a>, CompressionError> {
        let source = match codec {
            Compression::None => Source::Plain(bytes),
            Compression::Gzip => Source::Gzip(Box::new(MultiGzDecoder::new(bytes))),
            Compression::Snappy => Source::Snappy(Snappy::new(bytes)?),
            Compression::Lz4 => Source::Lz4(Box::new(FrameDecoder::new(bytes))),
            Compression::Zstd => {
                let malformed = |_| CompressionError::Malformed(codec);
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(bytes).map_err(malformed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(malformed)?;
                Source::Zstd(Box::new(decoder))
            }
        };
        Ok(Decompressor { codec, source, given: 0, max })
    }

    /// Appends up to about `most` further bytes to `target` and says how many; 0 at the end.
    ///
    /// # Errors
    /// See [`CompressionError`]. What was given before is in `target`.
    pub fn read(&mut self, target: &mut Vec<u8>, most: usize) -> Result<usize, CompressionError> {
        // One byte beyond the limit tells that there is more.
        let room = (self.max - self.given).saturating_add(1);
        let start = target.len();
        let wanted = most.min(room);
        let count = match &mut self.source {
            Source::Plain(bytes) => {
                let (now, later) = bytes.split_at(wanted.min(bytes.len()));
                target.extend_from_slice(now);
                *bytes = later;
                now.len()
            }
            Source::Gzip(reader) => pull(reader, target, wanted, self.codec)?,
            Source::Snappy(blocks) => blocks.next(target, self.max - self.given)?,
            Source::Lz4(reader) => pull(reader, target, wanted, self.codec)?,
            Source::Zstd(reader) => pull(reader, target, wanted, self.codec)?,
        };
        if count > self.max - self.given {
            target.truncate(start);
            return Err(CompressionError::TooLarge { max: self.max });
        }
        self.given += count;
        Ok(count)
    }
}

fn pull(
    reader: &mut impl Read,
    target: &mut Vec<u8>,
    most: usize,
    codec: Compression,
) -> Result<usize, CompressionError> {
    let start = target.len();
    target.resize(start + most, 0);
    let mut filled = start;
    while filled < target.len() {
        match reader.read(&mut target[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => {
                target.truncate(start);
                return Err(CompressionError::Malformed(codec));
            }
        }
    }
    target.truncate(filled);
    Ok(filled - start)
}

/// The blocks of a snappy stream; a raw one is one block.
struct Snappy<'a> {
    rest: &'a [u8],
    is_framed: bool,
    decoder: snap::raw::Decoder,
}

impl<'a> Snappy<'a> {
    fn new(bytes: &'a [u8]) -> Result<Snappy<'a>, CompressionError> {
        let is_framed = bytes.starts_with(&XERIAL_MAGIC);
        let rest = if is_framed { bytes.get(XERIAL_HEADER_BYTES..) } else { Some(bytes) };
        let rest = rest.ok_or(CompressionError::Malformed(Compression::Snappy))?;
        Ok(Snappy { rest, is_framed, decoder: snap::raw::Decoder::new() })
    }

    /// Appends what the next block that holds something gives.
    fn next(&mut self, target: &mut Vec<u8>, max: usize) -> Result<usize, CompressionError> {
        const MALFORMED: CompressionError = CompressionError::Malformed(Compression::Snappy);
        while !self.rest.is_empty() {
            let block = if self.is_framed {
                let (length, rest) = self.rest.split_first_chunk().ok_or(MALFORMED)?;
                let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| MALFORMED)?;
                let (block, rest) = rest.split_at_checked(length).ok_or(MALFORMED)?;
                self.rest = rest;
                block
            } else {
                std::mem::take(&mut self.rest)
            };
            let length = snap::raw::decompress_len(block).map_err(|_| MALFORMED)?;
            if length > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
                return Err(MALFORMED);
            }
            if length > max {
                return Err(CompressionError::TooLarge { max });
            }
            let start = target.len();
            target.resize(start + length, 0);
            if self.decoder.decompress(block, &mut target[start..]).is_err() {
                target.truncate(start);
                return Err(MALFORMED);
            }
            if length > 0 {
                return Ok(length);
            }
        }
        Ok(0)
    }
}

/// All that comes out of `bytes`, which may be no more than `max`.
///
/// # Errors
/// See [`CompressionError`].
pub fn decompress(
    codec: Compression,
    bytes: &[u8],
    max: usize,
) -> Result<Vec<u8>, CompressionError> {
    let mut decompressor = Decompressor::new(codec, bytes, max)?;
    let mut target = Vec::new();
    while decompressor.read(&mut target, STEP_BYTES)? > 0 {}
    Ok(target)
}

/// What a stream is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The codec.
    pub codec: Compression,
    /// How hard it tries: gzip -1 or 1 to 9, zstd -131072 to 22. The others have one level.
    pub level: i32,
    /// How much will be written, where that is known: then it has to be exactly so much.
    pub plain_bytes: Option<u64>,
}

impl Target {
    /// At the level that Kafka has by default.
    #[must_use]
    pub fn of(codec: Compression) -> Target {
        let level = if codec == Compression::Zstd { ZSTD_LEVEL } else { OWN_LEVEL };
        Target { codec, level, plain_bytes: None }
    }
}

/// Takes bytes piece by piece and gives the compressed stream at the end.
pub struct Compressor(Sink);

enum Sink {
    Plain(Vec<u8>),
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Snappy(Box<Xerial>),
    Lz4(Box<FrameEncoder<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
}

/// Why writing into memory does not fail.
const IN_MEMORY: &str = "memory takes what is written";

impl Compressor {
    /// An empty stream, at the level that Kafka has by default.
    ///
    /// # Panics
    /// When there is no memory for the codec's tables.
    #[must_use]
    pub fn new(codec: Compression) -> Compressor {
        Compressor::at_level(Target::of(codec))
    }

    /// An empty stream.
    ///
    /// # Panics
    /// When there is no memory for the codec's tables.
    #[must_use]
    pub fn at_level(target: Target) -> Compressor {
        Compressor(match target.codec {
            Compression::None => Sink::Plain(Vec::new()),
            Compression::Gzip => {
                let own = flate2::Compression::default();
                let level = u32::try_from(target.level).map_or(own, flate2::Compression::new);
                Sink::Gzip(Box::new(GzEncoder::new(Vec::new(), level)))
            }
            Compression::Snappy => Sink::Snappy(Box::new(Xerial::new())),
            Compression::Lz4 => {
                let info = FrameInfo::new()
                    .block_size(BlockSize::Max64KB)
                    .block_mode(BlockMode::Independent);
                Sink::Lz4(Box::new(FrameEncoder::with_frame_info(info, Vec::new())))
            }
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), target.level)
                    .expect("the level is one that there is");
                // The tables of a high level are as large as its window: no larger than is read.
                encoder.set_pledged_src_size(target.plain_bytes).expect("nothing was written yet");
                Sink::Zstd(Box::new(encoder))
            }
        })
    }

    /// Adds bytes.
    ///
    /// # Panics
    /// When there is no memory.
    pub fn write(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Sink::Plain(target) => target.extend_from_slice(bytes),
            Sink::Gzip(encoder) => encoder.write_all(bytes).expect(IN_MEMORY),
            Sink::Snappy(encoder) => encoder.write(bytes),
            Sink::Lz4(encoder) => encoder.write_all(bytes).expect(IN_MEMORY),
            Sink::Zstd(encoder) => encoder.write_all(bytes).expect(IN_MEMORY),
        }
    }

    /// How many bytes have come out so far: what the codec holds back is not among them.
    #[must_use]
    pub fn size(&self) -> usize {
        match &self.0 {
            Sink::Plain(target) => target.len(),
            Sink::Gzip(encoder) => encoder.get_ref().len(),
            Sink::Snappy(encoder) => encoder.target.len(),
            Sink::Lz4(encoder) => encoder.get_ref().len(),
            Sink::Zstd(encoder) => encoder.get_ref().len(),
        }
    }

    /// Ends the stream.
    ///
    /// # Panics
    /// When there is no memory.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        match self.0 {
            Sink::Plain(target) => target,
            Sink::Gzip(encoder) => encoder.finish().expect(IN_MEMORY),
            Sink::Snappy(encoder) => encoder.finish(),
            Sink::Lz4(encoder) => encoder.finish().expect(IN_MEMORY),
            Sink::Zstd(encoder) => encoder.finish().expect(IN_MEMORY),
        }
    }
}

/// `bytes`, compressed.
#[must_use]
pub fn compress(codec: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(codec);
    compressor.write(bytes);
    compressor.finish()
}

/// Writes xerial's framing.
struct Xerial {
    target: Vec<u8>,
    block: Vec<u8>,
    encoder: snap::raw::Encoder,
}

impl Xerial {
    fn new() -> Xerial {
        let mut target = XERIAL_MAGIC.to_vec();
        target.extend_from_slice(&1i32.to_be_bytes());
        target.extend_from_slice(&1i32.to_be_bytes());
        Xerial { target, block: Vec::new(), encoder: snap::raw::Encoder::new() }
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(XERIAL_BLOCK_BYTES - self.block.len()));
            self.block.extend_from_slice(now);
            rest = later;
            if self.block.len() == XERIAL_BLOCK_BYTES {
                self.end_block();
            }
        }
    }

    fn end_block(&mut self) {
        let compressed = self.encoder.compress_vec(&self.block).expect("a block is small");
        let length = i32::try_from(compressed.len()).expect("a block is small");
        self.target.extend_from_slice(&length.to_be_bytes());
        self.target.extend_from_slice(&compressed);
        self.block.clear();
    }

    fn finish(mut self) -> Vec<u8> {
        if !self.block.is_empty() {
            self.end_block();
        }
        self.target
    }
}

#[cfg(test)]
mod tests;
