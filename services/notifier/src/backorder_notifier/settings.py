"""Settings from NOTIFIER_… environment variables, checked as a whole at start. No error or listing shows a secret."""

import difflib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from backorder_notifier.contacts import is_mail_address
from backorder_notifier.errors import ConfigurationError

PREFIX = "NOTIFIER_"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mail is handed over. `tls`: from the first byte, by STARTTLS (never without), or none (loopback only)."""

    host: str
    port: int
    tls: Literal["none", "starttls", "tls"]
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Sender:
    """Whom mails are from. The domain also names our Message-IDs."""

    address: str
    name: str | None

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]


SCHEMES: dict[str, tuple[Literal["none", "starttls", "tls"], int]] = {
    "smtp": ("none", 25),
    "smtp+starttls": ("starttls", 587),
    "smtps": ("tls", 465),
}


def smtp_server(url: str) -> SmtpServer:
    """Reads NOTIFIER_SMTP_URL. Raises ValueError with a text that repeats nothing of the user name or password."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise ValueError("is not a URL such as smtp+starttls://user:pass@host:587") from None
    if parts.scheme not in SCHEMES or not host:
        raise ValueError(
            "should be smtp+starttls://user:pass@host:587, smtps://user:pass@host:465 or smtp://127.0.0.1:25"
        )
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("has something after the port; characters such as / ? # in a password are written %2F %3F %23")
    tls, default_port = SCHEMES[parts.scheme]
    if tls == "tls" and port == 587:
        raise ValueError("port 587 needs smtp+starttls")
    if tls == "starttls" and port == 465:
        raise ValueError("port 465 needs smtps")
    if tls == "none" and not is_loopback(host):
        raise ValueError(
            "smtp:// is clear text and only for a server on this machine: use smtp+starttls:// or smtps://"
        )
    return SmtpServer(
        host,
        port if port is not None else default_port,
        tls,
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password else None,
    )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def sender(text: str) -> Sender:
    """Reads NOTIFIER_MAIL_FROM: "shop@example.org" or "Shop <shop@example.org>"."""
    match = re.fullmatch(r"\s*(?:\"?([^\"<>]*?)\"?\s*<([^<>]+)>|([^<>\s]+))\s*", text)
    if match is None:
        raise ValueError('should be "shop@example.org" or "Shop <shop@example.org>"')
    name, address = match[1], match[2] or match[3]
    if not is_mail_address(address) or not address.isascii() or (name and not name.isprintable()):
        raise ValueError('should be "shop@example.org" or "Shop <shop@example.org>"')
    return Sender(address, name or None)


def _checked(check: Any) -> AfterValidator:
    """A text that `check` can read; the text itself is what the settings keep, so that secrets stay wrapped."""

    def validate(value: Any) -> Any:
        check(value.get_secret_value() if isinstance(value, SecretStr) else value)
        return value

    return AfterValidator(validate)


def _database_url(url: str) -> None:
    if urlsplit(url).scheme not in {"postgresql", "postgres"}:
        raise ValueError("should be postgresql://user:pass@host:5432/name")


def _servers(value: Any) -> Any:
    """ "host:9092,host2:9092" → a tuple: handed on as one text it would become one bogus host."""
    if not isinstance(value, str):
        return value
    servers = tuple(part.strip() for part in value.split(",") if part.strip())
    if not servers or not all(
        re.fullmatch(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}", server) for server in servers
    ):
        raise ValueError("should be host:9092 or host:9092,host2:9092")
    return servers


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("should be a positive duration such as PT30S or P5D")
    return value


Duration = Annotated[timedelta, AfterValidator(_positive)]


class Settings(BaseSettings):
    """Every field is the environment variable NOTIFIER_<FIELD>. Durations are ISO 8601 ("PT30S", "P5D")."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    database_url: Annotated[SecretStr, _checked(_database_url)]
    kafka_bootstrap_servers: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_servers)] | None = None
    topic_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,100}$")] = ""
    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65535)] = 8082
    smtp_url: Annotated[SecretStr, _checked(smtp_server)] | None = None
    mail_from: Annotated[str, _checked(sender)] | None = None
    start_at: AwareDatetime | None = None
    send_concurrency: Annotated[int, Field(ge=1, le=100)] = 4
    smtp_timeout: Annotated[Duration, Field(le=timedelta(seconds=20))] = timedelta(seconds=15)
    lease: Annotated[Duration, Field(le=timedelta(hours=1))] = timedelta(seconds=60)
    retry_first: Duration = timedelta(seconds=5)
    retry_longest: Duration = timedelta(minutes=30)
    give_up_after: Duration = timedelta(days=5)
    gap_wait: Duration = timedelta(minutes=15)
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # Neither .env files nor secret folders: what counts is what `settings` shows.
        return (init_settings, env_settings)

    @property
    def smtp(self) -> SmtpServer:
        return smtp_server(_given(self.smtp_url, "SMTP_URL").get_secret_value())

    @property
    def sender(self) -> Sender:
        return sender(_given(self.mail_from, "MAIL_FROM"))

    @property
    def bootstrap_servers(self) -> list[str]:
        return list(_given(self.kafka_bootstrap_servers, "KAFKA_BOOTSTRAP_SERVERS"))


def _given(value: T | None, name: str) -> T:
    if value is None:
        raise ConfigurationError(f"{PREFIX}{name} is not set")
    return value


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings of this process. Raises ConfigurationError naming every unknown or wrong variable, in one text."""
    problems = _unknown(environment)
    settings = None
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False, include_context=False):
            name = PREFIX + str(problem["loc"][0]).upper()
            message = problem["msg"].removeprefix("Value error, ")
            problems.append(f"{name} is not set" if problem["type"] == "missing" else f"{name}: {message}")
    if settings is not None and settings.lease < 2 * settings.smtp_timeout:
        # Or a second sender would take over a mail that the first is still handing over.
        problems.append(f"{PREFIX}LEASE: should be at least twice {PREFIX}SMTP_TIMEOUT")
    if settings is None or problems:
        raise ConfigurationError("\n".join(problems))
    return settings


def _unknown(environment: Mapping[str, str]) -> list[str]:
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    problems = []
    for name in sorted(name for name in environment if name.startswith(PREFIX) and name not in known):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        problems.append(f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else ""))
    return problems


@dataclass(frozen=True, slots=True)
class ShownSetting:
    name: str
    value: str | None
    default: str | None
    is_set: bool


def shown(settings: Settings) -> list[ShownSetting]:
    """Every setting for people, secrets masked."""
    rows = []
    for name, info in Settings.model_fields.items():
        required = info.is_required()
        rows.append(
            ShownSetting(
                name=PREFIX + name.upper(),
                value=_text(getattr(settings, name)),
                default=None if required else _text(info.default),
                is_set=name in settings.model_fields_set,
            )
        )
    return rows


def _text(value: Any) -> str | None:
    match value:
        case None:
            return None
        case SecretStr():
            return "********"
        case tuple():
            return ",".join(value)
        case timedelta():
            return f"PT{value.total_seconds():g}S"
        case datetime():
            return value.astimezone(UTC).isoformat()
        case _:
            return str(value)
