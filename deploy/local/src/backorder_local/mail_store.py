"""The mails that the sink got: one SQLite file, written by the sink, read by anybody who wants to look."""

import email.policy
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path

from backorder_local.errors import LocalError

SCHEMA = """
CREATE TABLE IF NOT EXISTS mails (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    received_at TEXT NOT NULL,
    sender TEXT NOT NULL,
    recipients TEXT NOT NULL,
    content BLOB NOT NULL
)
"""
SELECT = "SELECT id, received_at, sender, recipients, content FROM mails"


@dataclass(frozen=True)
class Mail:
    """One mail as it came in. `recipients` are those of the envelope; `content` are its bytes, lines ended by CRLF."""

    id: int
    received_at: datetime
    sender: str
    recipients: tuple[str, ...]
    content: bytes

    @property
    def message(self) -> EmailMessage:
        """The mail parsed: headers decoded, parts to walk."""
        return BytesParser(EmailMessage, policy=email.policy.default).parsebytes(self.content)

    @property
    def subject(self) -> str:
        return str(self.message["subject"] or "")

    @property
    def text(self) -> str:
        """The text part, decoded; empty if there is none."""
        return content(self.message, "plain")

    @property
    def html(self) -> str:
        """The HTML part, decoded; empty if there is none."""
        return content(self.message, "html")

    def names(self, order_id: str) -> bool:
        """Whether the order is named, as a whole word, in the text, the subject or another header."""
        word = re.compile(rf"(?<![\w-]){re.escape(order_id)}(?![\w-])")
        return any(word.search(text) for text in (self.text, *map(str, self.message.values())))


class MailStore:
    """The file. Each call opens it anew: a few calls a second, from several processes and threads."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._open() as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(SCHEMA)

    def add(self, sender: str, recipients: Sequence[str], content: bytes) -> int:
        """Keeps a mail. Returns its id: 1, 2, 3 … in the order received."""
        row = (datetime.now(UTC).isoformat(), sender, "\n".join(recipients), content)
        with self._open() as connection:
            connection.execute("PRAGMA synchronous = OFF")  # survives our end, not the machine's: it is a sink
            cursor = connection.execute(
                "INSERT INTO mails (received_at, sender, recipients, content) VALUES (?, ?, ?, ?)", row
            )
        return cursor.lastrowid or 0

    def mails(self, *, after: int = 0, to: str | None = None) -> list[Mail]:
        """Those with a higher id than `after`, oldest first; `to` is a part of a recipient's address, in any case."""
        query = f"{SELECT} WHERE id > ? AND (? IS NULL OR instr(lower(recipients), lower(?)) > 0) ORDER BY id"
        with self._open() as connection:
            return [to_mail(row) for row in connection.execute(query, (after, to, to))]

    def mail(self, id_: int) -> Mail | None:
        with self._open() as connection:
            row = connection.execute(f"{SELECT} WHERE id = ?", (id_,)).fetchone()
        return None if row is None else to_mail(row)

    def count(self) -> int:
        with self._open() as connection:
            return int(connection.execute("SELECT count(*) FROM mails").fetchone()[0])

    def clear(self) -> None:
        with self._open() as connection:
            connection.execute("DELETE FROM mails")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, timeout=10)
        try:
            with connection:
                yield connection
        except sqlite3.OperationalError as error:
            raise LocalError(f"The mails in {self.path} can't be used: {error}") from error
        finally:
            connection.close()


def content(message: EmailMessage, kind: str) -> str:
    """The part of this kind, decoded, its lines ended by a newline alone."""
    part = message.get_body((kind,))
    return "" if part is None else str(part.get_content()).replace("\r\n", "\n")


def to_mail(row: tuple[int, str, str, str, bytes]) -> Mail:
    id_, received_at, sender, recipients, content = row
    return Mail(id_, datetime.fromisoformat(received_at), sender, tuple(recipients.split("\n")), content)
