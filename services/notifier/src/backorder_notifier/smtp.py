"""A mail server: a few kept connections, an end to every wait, and what its answers mean."""

import asyncio
import contextlib
import re
import socket
import time
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

import aiosmtplib

from backorder_notifier.settings import SmtpServer

Verdict = Literal["sent", "later", "never", "ambiguous", "unreachable"]

_NOOP_AFTER_SECONDS: Final = 5.0  # a connection that was idle for longer is asked whether it still is one
_CLOSE_AFTER_SECONDS: Final = 60.0
_MAILS_PER_CONNECTION: Final = 100  # many servers end a connection after about as many
_ENHANCED = re.compile(r"\b([245]\.\d{1,3}\.\d{1,3})\b")


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one try. `reason` is codes only: texts of servers repeat addresses.

    sent: accepted. later: not now (4xx). never: refused for good (5xx to the recipient or the mail). ambiguous: the
    connection was lost after DATA, it may have been taken. unreachable: no mail can be handed over to this server now,
    whoever it is for (no connection, no login, our sender refused, 421).
    """

    verdict: Verdict
    reason: str | None = None

    @property
    def is_policy(self) -> bool:
        """5.7.x: a rule of the server, which somebody here should look at; says nothing against the recipient."""
        return self.verdict == "never" and " 5.7." in (self.reason or "")


@dataclass(slots=True)
class _Connection:
    client: aiosmtplib.SMTP
    used_at: float
    mails: int = 0


@dataclass(slots=True)
class _Letter:
    """One mail on its way. `handed_over`: DATA was begun and not answered yet."""

    sender: str
    recipient: str
    mail: bytes
    handed_over: bool = False


class MailServer:
    """Hands mails over to one server. Safe to use from several tasks: each mail has a connection to itself."""

    def __init__(self, server: SmtpServer, timeout: timedelta) -> None:
        self._server = server
        self._seconds = timeout.total_seconds()
        self._idle: deque[_Connection] = deque()

    async def send(self, sender: str, recipient: str, mail: bytes) -> Answer:
        """One try, over within the timeout. Never raises but for cancellation."""
        letter = _Letter(sender, recipient, mail)
        try:
            async with asyncio.timeout(self._seconds):
                connection = await self._connect()
                kept = connection.mails > 0
                answer = await self._send_over(connection, letter)
                if answer.verdict == "unreachable" and kept:
                    # The server may have closed a kept connection just now: that says nothing about the next one.
                    answer = await self._send_over(await self._open(), letter)
                return answer
        except aiosmtplib.SMTPResponseException as refused:
            return Answer("unreachable", _codes(refused))  # on connecting or logging in: nothing to do with this mail
        except (OSError, aiosmtplib.SMTPException, ValueError) as lost:
            reason = "timeout" if isinstance(lost, TimeoutError) else f"no connection ({type(lost).__name__})"
            return Answer("ambiguous", f"{reason} after DATA") if letter.handed_over else Answer("unreachable", reason)

    async def _send_over(self, connection: _Connection, letter: _Letter) -> Answer:
        client = connection.client
        keep = False
        try:
            options = [f"SIZE={len(letter.mail)}"] if client.supports_extension("size") else []
            await client.mail(letter.sender, options=options)
            await client.rcpt(letter.recipient)
            letter.handed_over = True
            await client.data(letter.mail)
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


def judge(refused: aiosmtplib.SMTPResponseException) -> Answer:
    """What an answer other than 2xx to MAIL, RCPT or DATA means for the mail."""
    codes = _codes(refused)
    our_sender_is_refused = isinstance(refused, aiosmtplib.SMTPSenderRefused) and refused.code >= 500
    # 421 to RCPT comes after our sender was taken, and may be for this recipient alone: it stops nobody else's mail.
    is_closing = refused.code == 421 and not isinstance(refused, aiosmtplib.SMTPRecipientRefused)
    if is_closing or our_sender_is_refused:
        return Answer("unreachable", codes)
    return Answer("never" if refused.code >= 500 else "later", codes)


def _codes(refused: aiosmtplib.SMTPResponseException) -> str:
    enhanced = _ENHANCED.search(refused.message)
    return f"smtp {refused.code}" + (f" {enhanced[1]}" if enhanced else "")
