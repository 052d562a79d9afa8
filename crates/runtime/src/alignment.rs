//! Checks that direct operations keep to the grid that their file asks for.

use crate::{FileInfo, Op, driver::FileId};

/// What the open files of a driver ask for, by descriptor.
#[derive(Default)]
pub(crate) struct Alignments(Vec<usize>);

impl Alignments {
    /// A file was opened: what its descriptor asked for before is forgotten.
    pub(crate) fn opened(&mut self, file: FileId, info: FileInfo) {
        let index = usize::try_from(file.0).expect("a descriptor");
        if self.0.len() <= index {
            self.0.resize(index + 1, 1);
        }
        self.0[index] =
            if info.direct { usize::try_from(info.alignment).expect("32 bits") } else { 1 };
    }

    /// # Panics
    /// When a direct read or write is off the grid: a broken program.
    pub(crate) fn check(&self, op: &Op) {
        if let Op::Read { file, position, length, buffer } = op {
            assert_on_grid(self.of(*file), *position, *length, buffer.pointer().addr());
        }
        if let Op::Write { file, position, slices } = op {
            let grid = self.of(*file);
            for slice in slices {
                assert_on_grid(grid, *position, slice.len(), slice.as_ptr().addr());
            }
        }
    }

    fn of(&self, file: FileId) -> usize {
        let index = usize::try_from(file.0).expect("a descriptor");
        self.0.get(index).copied().unwrap_or(1)
    }
}

fn assert_on_grid(grid: usize, position: u64, length: usize, address: usize) {
    let grid_bytes = u64::try_from(grid).expect("64 bits");
    assert!(position.is_multiple_of(grid_bytes), "position {position} is off the grid of {grid}");
    assert!(length.is_multiple_of(grid), "length {length} is off the grid of {grid}");
    assert!(address.is_multiple_of(grid), "a buffer is off the grid of {grid}");
}
