//! The fingerprint of a run: everything that crosses the seam goes into one hash, so that two runs
//! of a seed that differ anywhere are told apart.

/// Collects the fingerprint, and prints a line for each event where somebody wants to read along.
pub(crate) struct Trace {
    hash: u64,
    pub(crate) print: Option<fn(&str)>,
}

impl Trace {
    pub(crate) fn new() -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, print: None }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn note(&mut self, number: u64) {
        let mixed = (self.hash ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.hash = mixed ^ mixed >> 32;
    }

    pub(crate) fn note_bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.note(u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.note(u64::from(*byte));
        }
    }

    pub(crate) fn line(&self, text: impl FnOnce() -> String) {
        if let Some(print) = self.print {
            print(&text());
        }
    }
}
