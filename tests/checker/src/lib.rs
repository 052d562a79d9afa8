//! What is wrong with a history of clients and a broker of Kafka's kind.
//!
//! ```text
//! history     what was asked and told, one operation a line
//! facts       the same by call, value and log: one pass
//! checks      the rules, each a pass over the facts; `graph` has the one component search
//! anomaly     their names, and what was found
//! ```
//! It knows nothing of the broker, nor of the clients but what they wrote down. Time and memory
//! grow with the history's length, but for sorting. Rules that take several replicas (identical
//! segments, epochs) are not here: the broker has one.

pub mod anomaly;
mod checks;
mod facts;
pub mod history;

use anomaly::Report;
use history::{Error, Op};

/// Judges a history.
///
/// # Errors
/// When it is none: nothing at all, a completion of nothing, a time that goes back.
pub fn check(ops: &[Op]) -> Result<Report, Error> {
    if ops.is_empty() {
        return Err(Error::Empty);
    }
    let facts = facts::Facts::of(ops)?;
    let mut report = Report::new(&facts);
    checks::run(&facts, &mut report);
    Ok(report)
}
