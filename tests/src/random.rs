//! Numbers that look random and are the same in every run, and what they do to bytes.

/// Numbers at which lengths and counts tend to go wrong.
const EDGES: &[[u8; 4]] = &[
    [0x7f, 0xff, 0xff, 0xff],
    [0x80, 0, 0, 0],
    [0xff, 0xff, 0xff, 0xff],
    [0xff, 0xff, 0xff, 0xfe],
    [0, 0, 0xff, 0xff],
    [0xff, 0xff, 0xff, 0x0f],
    [0, 0, 0, 0],
];
/// Where a message that grows is cut.
const MUTATED_BYTES_MAX: usize = 8192;

/// `SplitMix64`.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The same numbers for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A number below `limit`.
    ///
    /// # Panics
    /// When `limit` is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).expect("a limit fits");
        usize::try_from(self.number() % limit).expect("it is below the limit")
    }

    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        self.number().to_le_bytes()[0]
    }

    /// One of them.
    pub fn pick<'t, T>(&mut self, items: &'t [T]) -> &'t T {
        &items[self.below(items.len())]
    }

    /// Breaks a message in one to four places.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                bytes.push(self.byte());
            }
            let at = self.below(bytes.len());
            match self.below(6) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.byte(),
                2 => bytes.truncate(at),
                3 => bytes.insert(at, self.byte()),
                4 => {
                    let edge = self.pick(EDGES);
                    let end = bytes.len().min(at + edge.len());
                    bytes[at..end].copy_from_slice(&edge[..end - at]);
                }
                _ => {
                    let from = self.below(bytes.len());
                    let copied = bytes[from..].to_vec();
                    bytes.splice(at..at, copied);
                    bytes.truncate(MUTATED_BYTES_MAX);
                }
            }
        }
    }
}
