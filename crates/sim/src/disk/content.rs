//! The bytes of a file, sparse: what was never written reads as zeros and takes no memory.

use std::collections::BTreeMap;

use crate::number::{narrow, wide};

/// The unit of allocation: a file system's block.
pub(crate) const BLOCK_BYTES: u64 = 4096;
const BLOCK: usize = 4096;

#[derive(Clone, Default)]
pub(crate) struct Content {
    /// Blocks that hold something else than zeros, or once did.
    blocks: BTreeMap<u64, Box<[u8; BLOCK]>>,
}

impl Content {
    pub(crate) fn read(&self, position: u64, into: &mut [u8]) {
        for piece in pieces(position, into.len()) {
            let target = &mut into[piece.from..piece.from + piece.length];
            match self.blocks.get(&piece.block) {
                Some(block) => {
                    target.copy_from_slice(&block[piece.within..piece.within + piece.length]);
                }
                None => target.fill(0),
            }
        }
    }

    pub(crate) fn write(&mut self, position: u64, bytes: &[u8]) {
        for piece in pieces(position, bytes.len()) {
            let source = &bytes[piece.from..piece.from + piece.length];
            let zeros = source.iter().all(|byte| *byte == 0);
            if zeros && piece.length == BLOCK {
                self.blocks.remove(&piece.block);
            } else if !zeros || self.blocks.contains_key(&piece.block) {
                let block = self.blocks.entry(piece.block).or_insert_with(|| Box::new([0; BLOCK]));
                block[piece.within..piece.within + piece.length].copy_from_slice(source);
            }
        }
    }

    /// Makes everything from `length` on zeros.
    pub(crate) fn cut(&mut self, length: u64) {
        self.blocks.split_off(&length.div_ceil(BLOCK_BYTES));
        let within = narrow(length % BLOCK_BYTES);
        if within > 0
            && let Some(block) = self.blocks.get_mut(&(length / BLOCK_BYTES))
        {
            block[within..].fill(0);
        }
    }
}

/// A part of a range that lies in one block.
pub(crate) struct Piece {
    pub(crate) block: u64,
    /// Where it starts within the block.
    pub(crate) within: usize,
    /// Where it starts within the range.
    pub(crate) from: usize,
    pub(crate) length: usize,
}

/// Cuts a range at the borders of blocks.
pub(crate) fn pieces(position: u64, length: usize) -> impl Iterator<Item = Piece> {
    let mut from = 0;
    std::iter::from_fn(move || {
        if from == length {
            return None;
        }
        let at = position + wide(from);
        let within = narrow(at % BLOCK_BYTES);
        let piece = Piece {
            block: at / BLOCK_BYTES,
            within,
            from,
            length: (BLOCK - within).min(length - from),
        };
        from += piece.length;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_like_an_array() {
        let mut rng = crate::Rng::new(5);
        let mut content = Content::default();
        let mut array = vec![0u8; 5 * BLOCK];
        for _ in 0..500 {
            let start = rng.index(array.len());
            let end = start + rng.index(array.len() - start + 1);
            let value = rng.pick(&[0, 0, 7, 200]);
            if rng.chance(200) {
                content.cut(wide(start));
                array[start..].fill(0);
            } else {
                content.write(wide(start), &vec![value; end - start]);
                array[start..end].fill(value);
            }
            let mut seen = vec![1; end - start];
            content.read(wide(start), &mut seen);
            assert_eq!(seen, array[start..end]);
        }
    }
}
