"""Errors that the command line prints as one sentence, without a traceback."""


class DataError(ValueError):
    """The data is not what the use case needs; the message says what is wrong and what to do."""


class GateError(Exception):
    """A gate stopped the run; the version served before keeps being served.

    Attributes:
        gate: The gate's short name.
    """

    def __init__(self, gate: str, reason: str):
        super().__init__(reason)
        self.gate = gate


class PreemptedError(Exception):
    """Training was asked to stop (SIGTERM) and has written a checkpoint."""
