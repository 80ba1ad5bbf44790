"""A mail server: a few kept connections, an end to every wait, and what its answers mean."""

import asyncio
import contextlib
import re
import socket
import time
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import aiosmtplib

from backorder_notifier.channel import Answer
from backorder_notifier.setting_values import SmtpServer

ANSWER_WITHIN: Final = timedelta(minutes=10)
"""How long a server may think about a mail it was given (RFC 5321 4.5.3.2.6). Who gives up earlier sends it twice."""

_NOOP_AFTER_SECONDS: Final = 5.0  # a connection that was idle for longer is asked whether it still is one
_CLOSE_AFTER_SECONDS: Final = 60.0
_MAILS_PER_CONNECTION: Final = 100  # many servers end a connection after about as many
# RFC 2034: at the start of the text. Elsewhere it may be a version or part of an IP address.
_ENHANCED = re.compile(r"\s*([245]\.\d{1,3}\.\d{1,3})(?![.\d])")
_GREYLISTING = re.compile(r"gr[ae]y[ -]?list", re.IGNORECASE)
_LINE_END = re.compile(rb"\r\n|\r|\n")


@dataclass(slots=True)
class _Connection:
    client: aiosmtplib.SMTP
    used_at: float
    mails: int = 0


@dataclass(slots=True)
class _Letter:
    """One mail on its way, to be handed over `until` then (of the loop's clock) or not at all.

    `handed_over`: the server has been given all of it, and didn't answer yet.
    """

    sender: str
    recipient: str
    mail: bytes
    until: float
    handed_over: bool = False

    @property
    def needs_utf8(self) -> bool:
        return not self.recipient.isascii()


class MailServer:
    """Hands mails over to one server. Safe to use from several tasks: each mail has a connection to itself.

    `timeout`: from connecting to the last line of the mail. `answer_within`: from there to the answer.
    """

    def __init__(
        self,
        server: SmtpServer,
        timeout: timedelta,
        answer_within: timedelta = ANSWER_WITHIN,
        connections: int = 4,
    ) -> None:
        self._server = server
        self._seconds = timeout.total_seconds()
        self._answer_seconds = answer_within.total_seconds()
        self._idle: deque[_Connection] = deque()
        self._free = asyncio.Semaphore(connections)

    async def send(self, sender: str, recipient: str, mail: bytes) -> Answer:
        """One try, over within the timeouts. Never raises but for cancellation. `recipient` may be not ASCII."""
        async with self._free:
            letter = _Letter(sender, recipient, mail, asyncio.get_running_loop().time() + self._seconds)
            try:
                async with asyncio.timeout_at(letter.until) as end:
                    connection = await self._connect()
                    kept = connection.mails > 0
                    answer = await self._send_over(connection, letter, end)
                    if answer.verdict == "unreachable" and kept:
                        # The server may have closed a kept connection just now: that says nothing about the next one.
                        answer = await self._send_over(await self._open(), letter, end)
                    return answer
            except aiosmtplib.SMTPResponseException as refused:
                return Answer(
                    "unreachable", _codes(refused)
                )  # on connecting or logging in: nothing to do with this mail
            except (OSError, aiosmtplib.SMTPException, ValueError) as lost:
                reason = "timeout" if isinstance(lost, TimeoutError) else f"no connection ({type(lost).__name__})"
                return (
                    Answer("ambiguous", f"{reason} after DATA") if letter.handed_over else Answer("unreachable", reason)
                )

    async def _send_over(self, connection: _Connection, letter: _Letter, end: asyncio.Timeout) -> Answer:
        client = connection.client
        keep = False
        try:
            if letter.needs_utf8 and not client.supports_extension("smtputf8"):
                keep = True
                return Answer("never", "smtputf8 not offered", tried=False)
            options = [f"SIZE={len(letter.mail)}"] if client.supports_extension("size") else []
            if letter.needs_utf8:
                options.append("SMTPUTF8")
            await client.mail(letter.sender, options=options)
            await client.rcpt(letter.recipient, encoding="utf-8" if letter.needs_utf8 else "ascii")
            await self._give(client, letter, end)
            keep = True
            return Answer("sent")
        except aiosmtplib.SMTPResponseException as refused:
            letter.handed_over = False  # it was answered, so nothing is in doubt
            answer = judge(refused)
            if answer.verdict in {"later", "never"}:
                keep = await _reset(client)
            return answer
        except (OSError, aiosmtplib.SMTPException) as lost:
            reason = "timeout" if isinstance(lost, TimeoutError) else "connection lost"
            if letter.handed_over:
                return Answer("ambiguous", f"{reason} after DATA")
            return Answer("unreachable", reason)
        finally:
            self._give_back(connection, keep=keep)

    async def _give(self, client: aiosmtplib.SMTP, letter: _Letter, end: asyncio.Timeout) -> None:
        """DATA in its two steps: aiosmtplib has one time for both, and doesn't tell which of them was reached."""
        ready = await client.execute_command(b"DATA", timeout=self._seconds)
        if ready.code != aiosmtplib.SMTPStatus.start_input:
            raise aiosmtplib.SMTPDataError(ready.code, ready.message)
        protocol = client.protocol
        if protocol is None:
            raise aiosmtplib.SMTPServerDisconnected("connection lost")
        now = asyncio.get_running_loop().time()
        # The library's own timeouts may swallow its cancellation; and of a process that stood still, tasks may go on
        # before its timers do, when another process has sent this mail, or a newer one.
        if end.expired() or now >= letter.until:
            raise TimeoutError
        end.reschedule(now + self._answer_seconds)
        letter.handed_over = True
        protocol.write(_stuffed(letter.mail))
        taken = await protocol.read_response(timeout=self._answer_seconds)
        if taken.code != aiosmtplib.SMTPStatus.completed:
            raise aiosmtplib.SMTPDataError(taken.code, taken.message)

    async def close(self) -> None:
        """Ends the kept connections politely, but not for long."""
        while self._idle:
            client = self._idle.pop().client
            with contextlib.suppress(OSError, TimeoutError, aiosmtplib.SMTPException):
                async with asyncio.timeout(1):
                    await client.quit()
            client.close()

    async def _connect(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            idle_seconds = time.monotonic() - connection.used_at
            if idle_seconds > _CLOSE_AFTER_SECONDS or not connection.client.is_connected:
                connection.client.close()
                continue
            if idle_seconds > _NOOP_AFTER_SECONDS:
                try:
                    await connection.client.noop()
                except (OSError, TimeoutError, aiosmtplib.SMTPException):
                    connection.client.close()
                    continue
            return connection
        return await self._open()

    async def _open(self) -> _Connection:
        client = aiosmtplib.SMTP(
            hostname=self._server.host,
            port=self._server.port,
            username=self._server.username,
            password=self._server.password,
            use_tls=self._server.tls == "tls",
            start_tls=self._server.tls == "starttls",
            # aiosmtplib would look up our full name in the DNS.
            local_hostname=socket.gethostname(),
            timeout=self._seconds,
        )
        try:
            await client.connect()
            if client.is_ehlo_or_helo_needed:
                # To know what it can do. One that is too old for EHLO is greeted again by the library, with HELO.
                with contextlib.suppress(aiosmtplib.SMTPHeloError):
                    await client.ehlo()
        except BaseException:
            client.close()
            raise
        return _Connection(client, time.monotonic())

    def _give_back(self, connection: _Connection, *, keep: bool) -> None:
        connection.mails += 1
        if keep and connection.mails < _MAILS_PER_CONNECTION:
            connection.used_at = time.monotonic()
            self._idle.append(connection)
        else:
            connection.client.close()


async def _reset(client: aiosmtplib.SMTP) -> bool:
    """Whether the connection can be used again after a refusal."""
    try:
        await client.rset()
    except (OSError, aiosmtplib.SMTPException):
        return False
    return True


def _stuffed(mail: bytes) -> bytes:
    """A mail as it goes over the wire: lines end in CRLF, a leading dot is doubled, a dot alone ends it."""
    lines = _LINE_END.split(mail.removesuffix(b"\r\n"))
    return b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines) + b".\r\n"


def judge(refused: aiosmtplib.SMTPResponseException) -> Answer:
    """What an answer other than 2xx to MAIL, RCPT or DATA means for the mail, its recipient and the domain."""
    codes = _codes(refused)
    enhanced = codes.partition(" ")[2].partition(" ")[2]
    policy = enhanced.startswith("5.7.") or enhanced in {"5.1.7", "5.1.8"}  # the latter: our own address is no good
    our_sender_is_refused = isinstance(refused, aiosmtplib.SMTPSenderRefused) and refused.code >= 500
    # 421 to RCPT comes after our sender was taken, and may be for this recipient alone: it stops nobody else's mail.
    is_closing = refused.code == 421 and not isinstance(refused, aiosmtplib.SMTPRecipientRefused)
    if is_closing or our_sender_is_refused:
        return Answer("unreachable", codes, policy=policy)
    if refused.code >= 500:
        dead = enhanced == "5.2.1" or enhanced.startswith("5.1.")
        return Answer("never", codes, policy=policy, suppress=dead and not policy)
    # 4.1.x and 4.2.x are about one mailbox (full, too busy), unless a greylist hides behind them as Postgrey's does.
    one_mailbox = enhanced.startswith(("4.1.", "4.2.")) and not _GREYLISTING.search(refused.message)
    return Answer("later", codes, whole_domain=not one_mailbox)


def _codes(refused: aiosmtplib.SMTPResponseException) -> str:
    enhanced = _ENHANCED.match(refused.message)
    return f"smtp {refused.code}" + (f" {enhanced[1]}" if enhanced else "")
