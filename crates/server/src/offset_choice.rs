//! How commands are told of a place in a partition.

use client::OffsetSpec;
use model::{Offset, TimestampMs};

/// What `parse` takes, for who reads help.
pub(crate) const OFFSET_CHOICES: &str = "earliest, latest, an offset or @MILLISECONDS";

/// An offset, or what the partition's leader is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OffsetChoice {
    Spec(OffsetSpec),
    At(Offset),
}

impl OffsetChoice {
    /// # Errors
    /// One line that names the choices.
    pub(crate) fn parse(text: &str) -> Result<OffsetChoice, String> {
        let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= 0);
        match text {
            "earliest" => Ok(OffsetChoice::Spec(OffsetSpec::Earliest)),
            "latest" => Ok(OffsetChoice::Spec(OffsetSpec::Latest)),
            _ => match text.strip_prefix('@') {
                Some(time) => number(time)
                    .map(|ms| OffsetChoice::Spec(OffsetSpec::AtOrAfter(TimestampMs(ms)))),
                None => number(text).map(|offset| OffsetChoice::At(Offset(offset))),
            }
            .ok_or_else(|| OFFSET_CHOICES.to_owned()),
        }
    }
}
