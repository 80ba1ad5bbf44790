"""An SMTP server that takes every mail and keeps it.

A process of the stack: `python -m backorder_local.mail_sink FILE PORT`.
"""

import asyncio
import contextlib
import signal
import smtplib
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from aiosmtpd.smtp import SMTP, Envelope, Session

from backorder_local import processes
from backorder_local.mail_store import MailStore
from backorder_local.place import Place
from backorder_local.processes import Process

MAX_MAIL_BYTES = 32 * 1024 * 1024
# What to answer to a mail instead of taking it, such as "451 4.3.0 Try again later"; None takes it.
Refusal = Callable[[Envelope], str | None]


class KeepMails:
    """What aiosmtpd calls. The answer 250 is given when the mail is kept, not before."""

    def __init__(self, store: MailStore, refuse: Refusal = lambda _envelope: None) -> None:
        self.store = store
        self.refuse = refuse

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802  aiosmtpd's name
        refusal = self.refuse(envelope)
        if refusal is not None:
            return refusal
        content = envelope.content
        raw = content.encode() if isinstance(content, str) else content or b""
        id_ = self.store.add(envelope.mail_from or "", envelope.rcpt_tos, raw)
        return f"250 2.0.0 Kept as {id_}"


def smtp_server(handler: KeepMails) -> SMTP:
    """One connection's server."""
    return SMTP(
        handler, data_size_limit=MAX_MAIL_BYTES, enable_SMTPUTF8=True, ident="Backorder mail sink", hostname="localhost"
    )


def start_mail_sink(place: Place, *, port: int) -> tuple[str, Process]:
    """Starts the sink on the stack's folder, where its mails stay. Returns its URL and its process."""
    port = processes.port_or_free(port, "Mail sink", "--smtp-port")
    command: list[str | Path] = [sys.executable, "-m", "backorder_local.mail_sink", place.mails, str(port)]
    return f"smtp://127.0.0.1:{port}", processes.start(place, "Mail sink", command)


def answers(url: str) -> bool:
    """Whether a mail server greets and takes a NOOP."""
    address = urlsplit(url)
    try:
        with smtplib.SMTP(address.hostname or "", address.port or 25, timeout=5) as client:
            return client.noop()[0] == 250
    except (OSError, smtplib.SMTPException):
        return False


async def serve(path: Path, port: int) -> None:
    """Takes mails on 127.0.0.1 until SIGTERM."""
    store = MailStore(path)
    store.create()
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = await loop.create_server(lambda: smtp_server(KeepMails(store)), "127.0.0.1", port)
    print(f"Taking mails on 127.0.0.1:{port}, kept in {path}", file=sys.stderr, flush=True)
    await stopped.wait()
    server.close()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
