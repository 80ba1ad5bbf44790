"""The three kinds of errors: a message that can never succeed is a `DeadLetter` value; these are the other two.

*The world is not ready*: `NotReadyError`, retried with backoff, nothing is acknowledged. *A bug*: any other exception,
which stops the partition loudly. Wrong set-up is a `ConfigurationError`: one clear line and exit 2; raised from within
the work, it ends the process, too.
"""


class ConfigurationError(Exception):
    """Settings or set-up that can't work; the text names the setting and the way out."""


class LostCommitsError(ConfigurationError):
    """The database has forgotten what was committed: what this process remembers is not so any more, and it ends."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"commits were lost: {what}. The database was restored, failed over to a copy that was behind, or crashed "
            "with synchronous_commit off. Start again: the checks at start say what is to be decided"
        )


class NotReadyError(Exception):
    """The database or Kafka can't do it now; the same call may succeed later."""


class LeaseLostError(Exception):
    """Another process publishes the log now."""


class BrokenError(Exception):
    """A part of this process has ended and won't come back: it logs one line and ends with exit 1, to be restarted."""
