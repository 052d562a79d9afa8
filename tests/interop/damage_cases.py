"""The names of the damages, for damages.py and its client."""

import re

RECORDS = 40
CASES = (
    "a batch appended", "a batch appended, no indexes", "no indexes and no snapshot", "another segment", "a tail of zeros",
    "a tail of zeros, no indexes", "half a batch", "the last batch changed", "a batch with a wrong CRC", "indexes full of zeros",
    "no leader epochs", "a gap of offsets", "a later leader epoch", "no topic id", "a batch in the middle changed",
    "no directory",
)


def name_of(case):
    """The topic of a case."""
    return re.sub("[ ,]+", "-", case)
