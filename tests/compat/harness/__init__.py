"""What tests/compat and tests/interop share: installing the clients, running a broker, driving a client, telling results."""


class Failure(Exception):
    """A promise that did not hold, or a tool that is missing: its text is what the person who reads the run needs."""
