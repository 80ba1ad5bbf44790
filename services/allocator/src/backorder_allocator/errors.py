"""The three kinds of errors: a message that can never succeed is a `DeadLetter` value; these are the other two.

*The world is not ready*: `NotReadyError`, retried with backoff, nothing is acknowledged. *A bug*: any other exception,
which stops the partition loudly. Wrong set-up is a `ConfigurationError`: one clear line and exit 2.
"""


class ConfigurationError(Exception):
    """Settings or set-up that can't work; the text names the setting and the way out."""


class NotReadyError(Exception):
    """The database or Kafka can't do it now; the same call may succeed later."""


class LeaseLostError(Exception):
    """Another process publishes the log now."""
