"""The further rows of a full run of peers.py, in steps as those of peers_cases.py."""

STEPS = {}
