"""A dead letter as a record of `notifier.dlq`: what it came with, and in headers why it is there."""

from typing import Final

from backorder_notifier.rows import DeadLetterRow, Headers

OUR_HEADERS: Final = frozenset(
    {"dlq.topic", "dlq.partition", "dlq.offset", "dlq.reason", "dlq.detail", "dlq.failed_at", "dlq.left_out"}
)

KeyValueHeaders = tuple[bytes | None, bytes | None, Headers]

LEFT_OUT: Final = ((), ("value",), ("value", "headers"), ("value", "headers", "key"))
"""What to leave out of a letter that the topic does not take, until it does; the database has all of it."""


def as_record(letter: DeadLetterRow, left_out: tuple[str, ...] = ()) -> KeyValueHeaders:
    """The original bytes, and headers that say where it was and why it is here.

    Headers of these names that it came with are left out: somebody took a record from a .dlq topic and sent it again.
    What is said now must be the only thing said, for a reader that takes the first of a name as for one that takes the
    last; and a record that goes round must not grow. The database keeps all of them.
    """
    record = letter.record
    why = [
        ("dlq.topic", record.full_topic),
        ("dlq.partition", str(record.partition)),
        ("dlq.offset", str(record.offset)),
        ("dlq.reason", letter.reason),
        ("dlq.detail", letter.detail),
        ("dlq.failed_at", letter.failed_at.isoformat().replace("+00:00", "Z")),
    ]
    if left_out:
        why.append(("dlq.left_out", ", ".join(left_out)))
    own = () if "headers" in left_out else tuple(each for each in record.headers if each[0] not in OUR_HEADERS)
    return (
        None if "key" in left_out else record.key,
        None if "value" in left_out else record.value,
        (*own, *((name, value.encode()) for name, value in why)),
    )
