//! How many operations are in flight on each descriptor, so that none is closed under them.
//!
//! The kernel looks a descriptor up when it starts an operation, and it starts some (syncs,
//! allocations, truncations) on a worker thread, later. If the descriptor were closed and its
//! number reused in between, the operation would hit another file. So a close waits for all.

use std::os::fd::RawFd;

use crate::driver::Token;

#[derive(Clone, Copy, Default)]
struct Use {
    in_flight: u32,
    closing: Option<Close>,
}

/// A close that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Close {
    File(Token),
    Socket(Token),
}

/// Uses by descriptor.
#[derive(Default)]
pub(super) struct Descriptors(Vec<Use>);

impl Descriptors {
    fn of(&mut self, descriptor: RawFd) -> &mut Use {
        let index = usize::try_from(descriptor).expect("descriptors are not negative");
        if self.0.len() <= index {
            self.0.resize(index + 1, Use::default());
        }
        &mut self.0[index]
    }

    /// An operation starts.
    pub(super) fn started(&mut self, descriptor: RawFd) {
        let known = self.of(descriptor);
        assert!(known.closing.is_none(), "an operation on descriptor {descriptor} after its close");
        known.in_flight += 1;
    }

    /// An operation ended. Gives the close that waited for it, if it was the last.
    pub(super) fn ended(&mut self, descriptor: RawFd) -> Option<Close> {
        let known = self.of(descriptor);
        known.in_flight -= 1;
        if known.in_flight == 0 { known.closing.take() } else { None }
    }

    /// A close is asked for. False if it has to wait.
    pub(super) fn may_close(&mut self, descriptor: RawFd, close: Close) -> bool {
        let known = self.of(descriptor);
        if known.in_flight == 0 {
            return true;
        }
        known.closing = Some(close);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_waits_for_the_last_operation() {
        let mut descriptors = Descriptors::default();
        assert!(descriptors.may_close(5, Close::File(Token(1))));
        descriptors.started(5);
        descriptors.started(5);
        assert!(!descriptors.may_close(5, Close::Socket(Token(2))));
        assert_eq!(descriptors.ended(5), None);
        assert_eq!(descriptors.ended(5), Some(Close::Socket(Token(2))));
        // The number is reused.
        descriptors.started(5);
        assert_eq!(descriptors.ended(5), None);
    }
}
