//! Marks in records, and the search for them in this process's memory.
//!
//! The searching process has marks only where a broker keeps records: it compares in disguise,
//! every byte turned by [`MASK`], and so never holds a mark of its own.

use std::{collections::BTreeMap, fs::File, ops::Range, os::unix::fs::FileExt};

/// Addresses of each record's mark, in order.
pub type Places = BTreeMap<u32, Vec<usize>>;

/// What every mark begins with, in disguise; the number of its record follows, big endian.
const DISGUISED: [u8; 16] = *b"\x9d\x03\xf1\x27\x8e\x64\xbb\x11\xc9\x58\xa2\x6f\x34\xe7\x40\xd5";
const MASK: u8 = 0x5a;
/// A mark's length.
pub const MARK_BYTES: usize = DISGUISED.len() + 4;

const PAGE_BYTES: usize = 4096;
const WINDOW_BYTES: usize = 1 << 20;

/// A record's mark, in clear: for the client's process alone.
pub fn mark(record: u32) -> [u8; MARK_BYTES] {
    let mut mark = [0; MARK_BYTES];
    for (clear, disguised) in mark.iter_mut().zip(DISGUISED) {
        *clear = disguised ^ MASK;
    }
    mark[DISGUISED.len()..].copy_from_slice(&record.to_be_bytes());
    mark
}

/// The marks in `bytes`, with where they begin.
pub fn marks_in(bytes: &[u8]) -> Vec<(u32, usize)> {
    let mut found = Vec::new();
    let first = DISGUISED[0] ^ MASK;
    let last = bytes.len().saturating_sub(MARK_BYTES - 1);
    let mut at = 0;
    while at < last {
        let Some(next) = bytes[at..last].iter().position(|byte| *byte == first) else { break };
        at += next;
        let candidate = &bytes[at..at + MARK_BYTES];
        if candidate.iter().zip(DISGUISED).all(|(byte, disguised)| byte ^ MASK == disguised) {
            let number = candidate[DISGUISED.len()..].try_into().unwrap();
            found.push((u32::from_be_bytes(number), at));
        }
        at += 1;
    }
    found
}

/// Where marks of these records lie in all that this process may read and write, heaps and stacks, in use or freed.
pub fn find_marks(records: &Range<u32>) -> Places {
    let memory = File::open("/proc/self/mem").unwrap();
    let mut window = vec![0; WINDOW_BYTES + PAGE_BYTES];
    let zeros = vec![0; window.len()];
    let own = window.as_ptr().addr()..window.as_ptr().addr() + window.len();
    let mut places = Places::new();
    for (start, end) in mappings() {
        let mut from = start;
        while from < end {
            // A page more than the step, for marks across its end.
            let length = (end - from).min(window.len());
            let position = u64::try_from(from).unwrap();
            // What the kernel maps for its own use cannot be read.
            let Ok(()) = memory.read_exact_at(&mut window[..length], position) else { break };
            if window[..length] != zeros[..length] {
                for (record, at) in marks_in(&window[..length]) {
                    let address = from + at;
                    let is_new = at < WINDOW_BYTES && !own.contains(&address);
                    if is_new && records.contains(&record) {
                        places.entry(record).or_default().push(address);
                    }
                }
            }
            // The window keeps no mark for the next search to find.
            window[..length].fill(0);
            from += WINDOW_BYTES;
        }
    }
    sorted(places)
}

/// Start and end of the mappings that may be read and written.
fn mappings() -> Vec<(usize, usize)> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut mappings = Vec::new();
    for line in maps.lines() {
        let mut words = line.split(' ');
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        if rights.starts_with("rw") {
            let (start, end) = range.split_once('-').unwrap();
            let address = |text| usize::from_str_radix(text, 16).unwrap();
            mappings.push((address(start), address(end)));
        }
    }
    mappings
}

/// All of them together.
pub fn union(all: &[&Places]) -> Places {
    let mut places = Places::new();
    for (record, addresses) in all.iter().flat_map(|places| places.iter()) {
        places.entry(*record).or_default().extend(addresses);
    }
    sorted(places)
}

/// Each address once, in order.
pub fn sorted(mut places: Places) -> Places {
    for addresses in places.values_mut() {
        addresses.sort_unstable();
        addresses.dedup();
    }
    places
}
