"""`doctor`: whether everything that `run` needs is there, each with the way out. Nothing is sent or changed."""

import asyncio
import socket
import zoneinfo
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal
from urllib.parse import urlsplit

import aiosmtplib
import asyncpg
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from backorder_notifier import accepting, guards, migrate, reports
from backorder_notifier.addresses import may_reach
from backorder_notifier.errors import WRONG_ADDRESS, ConfigurationError, is_not_ready
from backorder_notifier.intake import READS
from backorder_notifier.kinds import OPTIONAL
from backorder_notifier.setting_values import SmtpServer
from backorder_notifier.settings import Settings
from backorder_notifier.terminal import connect

_SECONDS: Final = 15.0  # for each of the things that are reached

State = Literal["fine", "note", "wrong"]
"""note: it works, and somebody may want it otherwise."""


@dataclass(frozen=True, slots=True)
class Finding:
    about: str
    state: State
    says: str


async def examine(settings: Settings) -> list[Finding]:
    """Everything there is to look at, what has to be reached at the same time; each is waited for 15 s at most."""
    reached: dict[str, Callable[[], Awaitable[Sequence[Finding]]]] = {
        "database": lambda: _database(settings),
        "kafka": lambda: _kafka(settings),
    }
    if "email" in settings.channels:
        reached["email"] = lambda: _mail(settings)
    if "webhook" in settings.channels:
        reached["webhook"] = lambda: _webhook(settings)
    found = [Finding("settings", "fine", "All that is set is known and fits together.")]
    for each in await asyncio.gather(*(_guarded(about, work) for about, work in reached.items())):
        found += each
    if {"schema", "kafka"} <= {each.about for each in found if each.state == "fine"}:
        found += await _guarded("start", lambda: _start(settings))
    if "sms" in settings.channels:
        found += _sms(settings)
    found += _templates(settings)
    found += _zones()
    if settings.public_url is None and (told := sorted(OPTIONAL - settings.kinds_off)):
        says = f"{', '.join(told)} go out without a link to unsubscribe: set NOTIFIER_PUBLIC_URL."
        found.append(Finding("unsubscribing", "note", says))
    return found


async def _guarded(about: str, work: Callable[[], Awaitable[Sequence[Finding]]]) -> Sequence[Finding]:
    """What `work` finds; what it raises as a finding. Texts of errors are not shown: they may hold a secret."""
    try:
        async with asyncio.timeout(_SECONDS):
            return await work()
    except ConfigurationError as error:
        return [Finding(about, "wrong", f"{error}.")]
    except WRONG_ADDRESS as error:
        return [Finding(about, "wrong", f"The server refuses user, password or name ({type(error).__name__}).")]
    except Exception as error:
        if not is_not_ready(error):
            raise
        return [Finding(about, "wrong", f"It can't be reached ({type(error).__name__}).")]


async def _database(settings: Settings) -> list[Finding]:
    connection = await connect(settings.database_url.get_secret_value())
    try:
        return [*_server(await reports.report_server(connection)), *await _schema(connection)]
    finally:
        await connection.close(timeout=5)


def _server(server: reports.ServerRow) -> Iterator[Finding]:
    about = "database"
    if server.version < 160_000:
        yield Finding(about, "wrong", "It is older than PostgreSQL 16.")
    if server.is_a_copy:
        yield Finding(about, "wrong", "It is a read-only copy: NOTIFIER_DATABASE_URL should name the primary.")
    if not server.fsync or not server.full_page_writes:
        yield Finding(
            about, "wrong", "fsync or full_page_writes is off: a power cut may lose what was told, or all; see `run`."
        )
    if server.synchronous_commit == "off":
        yield Finding(
            about,
            "wrong",
            "synchronous_commit is off: after a crash the last mails are sent again, and news may never be told.",
        )
    if not server.encrypted and not server.is_this_machine:
        yield Finding(
            about, "note", "The connection is not encrypted: add ?sslmode=verify-full to NOTIFIER_DATABASE_URL."
        )
    yield Finding(about, "fine", f"PostgreSQL {server.version // 10_000} answers.")


async def _schema(connection: asyncpg.Connection) -> list[Finding]:
    if missing := await migrate.pending(connection):
        names = ", ".join(migration.name for migration in missing)
        return [Finding("schema", "wrong", f"It lacks {names}: run `backorder-notifier migrate`.")]
    return [Finding("schema", "fine", "It is the one of this release.")]


async def _kafka(settings: Settings) -> list[Finding]:
    servers, prefix = settings.bootstrap_servers, settings.topic_prefix
    admin = AIOKafkaAdminClient(
        bootstrap_servers=servers, client_id="backorder-notifier doctor", request_timeout_ms=10_000
    )
    try:
        await admin.start()
        there = set(await admin.list_topics())
    except KafkaError as error:
        return [Finding("kafka", "wrong", f"It can't be reached ({type(error).__name__}).")]
    finally:
        await admin.close()
    wanted = {f"{prefix}{topic}" for topic in (*READS, "notifications", "notifier.dlq")}
    if missing := sorted(wanted - there):
        return [
            Finding(
                "kafka", "wrong", f"Topics are missing: {', '.join(missing)}. `backorder-allocator topics --apply`."
            )
        ]
    return [Finding("kafka", "fine", f"It answers, and all {len(wanted)} topics are there.")]


async def _start(settings: Settings) -> list[Finding]:
    """What `run` would stop for."""
    connection = await connect(settings.database_url.get_secret_value())
    try:
        found = await accepting.examine(connection, settings.bootstrap_servers, settings.topic_prefix)
    finally:
        await connection.close(timeout=5)
    # The database's own settings are among its own findings.
    if stops := [each for each in found if each.what != "unsafe_durability"]:
        return [Finding("start", "wrong", f"{guards.sentence(each)}.") for each in stops]
    return [Finding("start", "fine", "Topics, positions and what was published are as this database knows them.")]


async def _mail(settings: Settings) -> list[Finding]:
    """Greeting, TLS, login and NOOP, as for a mail; no mail."""
    server, sender = settings.smtp, settings.sender
    client = _client(server, settings.smtp_timeout)
    try:
        await client.connect()
        await client.noop()
        utf8 = client.supports_extension("smtputf8")
        await client.quit()
    except aiosmtplib.SMTPAuthenticationError as refused:
        return [Finding("email", "wrong", f"The server refuses the login of NOTIFIER_SMTP_URL ({refused.code}).")]
    except aiosmtplib.SMTPResponseException as refused:
        return [Finding("email", "wrong", f"The server answers {refused.code} before any mail.")]
    except (OSError, aiosmtplib.SMTPException, ValueError) as lost:
        where, name = f"{server.host}:{server.port}", type(lost).__name__
        for lacking, wish in (("STARTTLS", "smtp+starttls://"), ("AUTH", "a user")):
            if f"{lacking} extension" in str(lost):
                says = f"{where} offers no {lacking}, and NOTIFIER_SMTP_URL has {wish}."
                return [Finding("email", "wrong", says)]
        return [Finding("email", "wrong", f"{where} can't be reached as NOTIFIER_SMTP_URL says ({name}).")]
    finally:
        client.close()
    how = {"none": "clear text, on this machine", "starttls": "STARTTLS", "tls": "TLS"}[server.tls]
    login = "logged in" if server.username else "no login"
    found = [Finding("email", "fine", f"{server.host}:{server.port} answers ({how}, {login}); from {sender.address}.")]
    if not utf8:
        found.append(Finding("email", "note", "The server takes no addresses with letters beyond ASCII before the @."))
    return found


def _client(server: SmtpServer, timeout: timedelta) -> aiosmtplib.SMTP:
    return aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        username=server.username,
        password=server.password,
        use_tls=server.tls == "tls",
        start_tls=server.tls == "starttls",
        local_hostname=socket.gethostname(),
        timeout=min(timeout.total_seconds(), _SECONDS),
    )


def _sms(settings: Settings) -> list[Finding]:
    """Nothing is asked of the gateway: most count any request as a message."""
    gateway = settings.sms
    where = urlsplit(gateway.url).hostname if gateway.url else "its own address"
    return [Finding("sms", "fine", f"{gateway.provider} at {where}, from {gateway.sender}. It was not asked.")]


async def _webhook(settings: Settings) -> list[Finding]:
    """Where the name leads to at this moment; nothing is sent."""
    from backorder_notifier.webhook import addresses_of  # noqa: PLC0415 - httpx takes its time to load

    target = settings.webhook
    parts = urlsplit(target.url)
    host = parts.hostname or ""
    try:
        addresses = await addresses_of(host)
    except (OSError, UnicodeError):
        return [Finding("webhook", "wrong", f"The name {host} leads nowhere.")]
    encrypted = parts.scheme == "https"
    if not any(may_reach(address, target.allowed_networks, encrypted=encrypted) for address in addresses):
        return [
            Finding(
                "webhook",
                "wrong",
                f"{host} leads to addresses that are not public: see NOTIFIER_WEBHOOK_ALLOWED_NETWORKS.",
            )
        ]
    keys = "two secrets, one replacing the other" if len(target.secrets) == 2 else "one secret"
    return [Finding("webhook", "fine", f"{host} may be reached; {keys}. It was not asked.")]


def _templates(settings: Settings) -> list[Finding]:
    from backorder_notifier.checking import check  # noqa: PLC0415
    from backorder_notifier.rendering import load_templates  # noqa: PLC0415

    try:
        templates = load_templates(settings.templates, default_locale=settings.locale_default)
        check(templates)
    except ConfigurationError as error:
        return [Finding("templates", "wrong", str(error))]
    whose = f"those of {settings.templates} and the built-in ones" if settings.templates else "the built-in ones"
    return [Finding("templates", "fine", f"Every kind can be said in {', '.join(templates.languages)}, by {whose}.")]


def _zones() -> list[Finding]:
    count = len(zoneinfo.available_timezones())
    if count < 300:
        says = f"Only {count} time zones are known, the others count as UTC: install the package tzdata."
        return [Finding("time zones", "wrong", says)]
    return [Finding("time zones", "fine", f"{count} are known.")]
