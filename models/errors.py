"""What goes wrong with data, as one type that the command line prints without a traceback."""


class DataError(ValueError):
    """The data is not what the case needs: one sentence that says what is wrong and what to do."""


class Refused(Exception):
    """A gate did its work: the run stops here, what was served before goes on being served.

    Attributes:
        gate: The gate's short name.
    """

    def __init__(self, gate: str, reason: str):
        super().__init__(reason)
        self.gate = gate


class Preempted(Exception):
    """Training was told to stop and has saved where it is."""
