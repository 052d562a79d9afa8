"""The transactional ids of prepared.py and prepared_client.py. Needs nothing that has to be installed."""

# How each one's transaction is decided to end, and by a client of which generation.
DECIDED = {"commit-0": ("commit", 0), "abort-0": ("abort", 0), "commit-2": ("commit", 2), "abort-2": ("abort", 2)}
# Nobody decides about this one's.
OPEN = "left-open"
