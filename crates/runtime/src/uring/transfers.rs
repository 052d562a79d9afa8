//! Reads and writes of files, through registered buffers where their memory lies in one.

use std::os::fd::RawFd;

use bytes::Bytes;
use io_uring::{IoUring, opcode, squeue::Entry, types};

use super::{
    in_flight::{Ended, fill_vectors, length_of},
    registered::RegisteredBuffers,
};
use crate::{Buffer, buffer::BLOCK_ALIGNMENT, driver::Output};

pub(super) struct FileRead {
    pub(super) file: RawFd,
    position: u64,
    wanted: usize,
    done: usize,
    buffer: Option<Buffer>,
    /// The registered buffer that it goes into.
    slot: Option<u16>,
}

impl FileRead {
    pub(super) fn new(file: RawFd, position: u64, wanted: usize, buffer: Buffer) -> FileRead {
        FileRead { file, position, wanted, done: 0, buffer: Some(buffer), slot: None }
    }

    pub(super) fn find_slot(&mut self, registered: &mut RegisteredBuffers, ring: &IoUring) {
        let address = self.buffer.as_ref().expect("not completed").pointer().addr();
        self.slot = registered.slot_of_memory(ring, address, self.wanted);
    }

    /// What to submit now; its pointer is valid while `self` lives.
    pub(super) fn entry(&mut self) -> Entry {
        let buffer = self.buffer.as_mut().expect("not completed");
        let memory = &mut buffer.memory_mut()[self.done..self.wanted];
        let (start, length) = (memory.as_mut_ptr(), length_of(memory.len()));
        let (file, at) = (types::Fd(self.file), at(self.position, self.done));
        match self.slot {
            Some(slot) => opcode::ReadFixed::new(file, start, length, slot).offset(at).build(),
            None => opcode::Read::new(file, start, length).offset(at).build(),
        }
    }

    /// It went on by `count` bytes.
    pub(super) fn transferred(&mut self, count: usize) -> Ended {
        self.done += count;
        // A read that ends off the grid has met the end of the file, and a direct one could not go
        // on from there.
        if count > 0 && self.done < self.wanted && self.done.is_multiple_of(BLOCK_ALIGNMENT) {
            return Ended::Again;
        }
        let mut buffer = self.buffer.take().expect("completed once");
        buffer.set_length(self.done);
        Ended::With(Ok(Output::Buffer(buffer)))
    }
}

pub(super) struct FileWrite {
    pub(super) file: RawFd,
    pub(super) position: u64,
    slices: Vec<Bytes>,
    vectors: Vec<libc::iovec>,
    /// The registered buffer that all of it lies in.
    slot: Option<u16>,
}

impl FileWrite {
    pub(super) fn new(file: RawFd, position: u64, slices: Vec<Bytes>) -> FileWrite {
        FileWrite { file, position, slices, vectors: Vec::new(), slot: None }
    }

    /// How many bytes it writes.
    pub(super) fn length(&self) -> usize {
        self.slices.iter().map(Bytes::len).sum()
    }

    pub(super) fn find_slot(&mut self, registered: &mut RegisteredBuffers, ring: &IoUring) {
        self.slot = registered.slot_of_slices(ring, &self.slices);
    }

    /// What to submit now; its pointers are valid while `self` stays where it is.
    pub(super) fn entry(&mut self) -> Entry {
        fill_vectors(&mut self.vectors, &self.slices, 0);
        let (vectors, count) = (self.vectors.as_ptr(), length_of(self.vectors.len()));
        let (file, at) = (types::Fd(self.file), self.position);
        match (self.slot, self.vectors.as_slice()) {
            (Some(slot), [only]) => {
                let (start, length) = (only.iov_base.cast_const().cast(), length_of(only.iov_len));
                opcode::WriteFixed::new(file, start, length, slot).offset(at).build()
            }
            (Some(slot), _) => {
                opcode::WritevFixed::new(file, vectors, count, slot).offset(at).build()
            }
            (None, _) => opcode::Writev::new(file, vectors, count).offset(at).build(),
        }
    }
}

fn at(position: u64, done: usize) -> u64 {
    position + u64::try_from(done).expect("usize is at most 64 bits")
}
