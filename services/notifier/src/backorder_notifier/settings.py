"""Settings from NOTIFIER_… environment variables, checked as a whole at start. No error or listing shows a secret."""

import difflib
from collections.abc import Iterator, Mapping
from datetime import time, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from backorder_notifier import setting_values as read
from backorder_notifier.addresses import webhook_url as may_be_reached
from backorder_notifier.errors import ConfigurationError
from backorder_notifier.kinds import KINDS, Channel, Kind
from backorder_notifier.policy import Debounce, Policy, QuietHours
from backorder_notifier.setting_values import (
    Network,
    Sender,
    SmsGateway,
    SmtpServer,
    WebhookTarget,
    sender,
    smtp_server,
)

__all__ = [
    "PREFIX", "Sender", "Settings", "SmsGateway", "SmtpServer", "WebhookTarget", "read_settings",
    "sender", "smtp_server",
]  # fmt: skip

PREFIX = "NOTIFIER_"
T = TypeVar("T")
POLICY = Policy()
_LONGEST = timedelta(days=3650)


def _checked(check: Any) -> AfterValidator:
    """A text that `check` can read; the text itself is what the settings keep, so that secrets stay wrapped."""

    def validate(value: Any) -> Any:
        check(value.get_secret_value() if isinstance(value, SecretStr) else value)
        return value

    return AfterValidator(validate)


def _positive(value: timedelta) -> timedelta:
    # What is longer can't be counted back from now, and would stop telling for ever.
    if not timedelta(0) < value <= _LONGEST:
        raise ValueError(f"should be a positive duration such as PT30S or P5D, P{_LONGEST.days}D at most")
    return value


def _folder(value: Path) -> Path:
    if not value.is_dir():
        raise ValueError("is not a folder; `backorder-notifier gallery FOLDER` shows what templates look like")
    return value


def _shop_name(value: str) -> str:
    if not value.isprintable():
        raise ValueError("should be one line of text")
    return value.strip()


Duration = Annotated[timedelta, AfterValidator(_positive)]
Days = Annotated[int, Field(ge=1, le=365)]
PerSecond = Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)]


class Settings(BaseSettings):
    """Every field is the environment variable NOTIFIER_<FIELD>. Durations are ISO 8601 ("PT30S", "P5D")."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    database_url: Annotated[SecretStr, _checked(read.database_url)]
    kafka_bootstrap_servers: Annotated[tuple[str, ...], NoDecode, BeforeValidator(read.bootstrap_servers)] | None = None
    topic_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,100}$")] = ""
    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65535)] = 8082

    # What is told, and when.
    channels: Annotated[tuple[Channel, ...], NoDecode, BeforeValidator(read.channels)] = POLICY.channels
    kinds_off: Annotated[frozenset[Kind], NoDecode, BeforeValidator(read.kinds_off)] = POLICY.kinds_off
    start_at: AwareDatetime | None = None
    debounce: Annotated[
        Mapping[Kind | Literal["default"], Debounce], NoDecode, BeforeValidator(read.debounce)
    ] = Field(default_factory=dict)  # fmt: skip
    tell_later_days: Days = POLICY.later_days
    tell_earlier_days: Days = POLICY.earlier_days
    approaching_days: Days = POLICY.approaching_days
    missed_days: Days = POLICY.missed_days
    feedback_days: Days = POLICY.feedback_days
    timed_at: Annotated[time, BeforeValidator(read.clock)] = POLICY.timed_at
    quiet_hours: Annotated[Mapping[Channel, QuietHours], NoDecode, BeforeValidator(read.quiet_hours)] = Field(
        default_factory=lambda: dict(POLICY.quiet_hours)
    )
    daily_cap: Annotated[int, Field(ge=1, le=1000)] = POLICY.daily_cap
    stale_after: Duration = POLICY.stale_after
    gap_wait: Duration = POLICY.gap_wait

    # Words.
    locale_default: Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}([_-][A-Za-z0-9]{2,8})*$")] = "en"
    templates: Annotated[Path, AfterValidator(_folder)] | None = None
    shop_name: Annotated[str, AfterValidator(_shop_name), Field(min_length=1, max_length=100)] | None = None
    public_url: Annotated[str, _checked(read.public_url)] | None = None

    # Sending.
    smtp_url: Annotated[SecretStr, _checked(smtp_server)] | None = None
    mail_from: Annotated[str, _checked(sender)] | None = None
    smtp_timeout: Annotated[Duration, Field(le=timedelta(seconds=20))] = timedelta(seconds=15)
    smtp_answer_timeout: Annotated[Duration, Field(le=timedelta(minutes=30))] = timedelta(minutes=10)
    sms_provider: read.SmsProvider | None = None
    sms_url: Annotated[str, _checked(read.web_url)] | None = None
    sms_account: Annotated[str, Field(pattern=r"^[!-~]{1,200}$")] | None = None
    sms_token: SecretStr | None = None
    sms_from: Annotated[str, _checked(read.sms_sender)] | None = None
    webhook_url: Annotated[str, _checked(read.any_web_url)] | None = None
    webhook_secret: Annotated[SecretStr, _checked(read.webhook_secrets)] | None = None
    webhook_allowed_networks: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(read.networks)] = ()
    email_per_second: PerSecond = 50
    sms_per_second: PerSecond = 5
    webhook_per_second: PerSecond = 50
    send_concurrency: Annotated[int, Field(ge=1, le=100)] = 4
    lease: Annotated[Duration, Field(le=timedelta(hours=1))] = timedelta(seconds=60)
    retry_first: Duration = timedelta(seconds=5)
    retry_longest: Duration = timedelta(minutes=30)
    give_up_after: Duration = timedelta(days=5)

    keep_days: Annotated[int, Field(ge=30, le=36_500)] = 730
    dead_letters_keep_days: Annotated[int, Field(ge=1, le=36_500)] = 30
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
    def policy(self) -> Policy:
        """When customers are told."""
        fallback = self.debounce.get("default")
        every = {} if fallback is None else dict.fromkeys(KINDS, fallback)
        named = {kind: self.debounce[kind] for kind in KINDS if kind in self.debounce}
        return Policy(
            channels=self.channels,
            kinds_off=self.kinds_off,
            debounce={**every, **POLICY.debounce, **named},
            later_days=self.tell_later_days,
            earlier_days=self.tell_earlier_days,
            approaching_days=self.approaching_days,
            missed_days=self.missed_days,
            feedback_days=self.feedback_days,
            timed_at=self.timed_at,
            quiet_hours=self.quiet_hours,
            daily_cap=self.daily_cap,
            stale_after=self.stale_after,
            gap_wait=self.gap_wait,
            start_at=self.start_at,
        )

    @property
    def smtp(self) -> SmtpServer:
        return smtp_server(_given(self.smtp_url, "SMTP_URL").get_secret_value())

    @property
    def sender(self) -> Sender:
        return sender(_given(self.mail_from, "MAIL_FROM"))

    @property
    def sms(self) -> SmsGateway:
        return SmsGateway(
            provider=_given(self.sms_provider, "SMS_PROVIDER"),
            url=self.sms_url,
            account=self.sms_account,
            token=_given(self.sms_token, "SMS_TOKEN").get_secret_value(),
            sender=_given(self.sms_from, "SMS_FROM"),
        )

    @property
    def webhook(self) -> WebhookTarget:
        return WebhookTarget(
            url=_given(self.webhook_url, "WEBHOOK_URL"),
            secrets=read.webhook_secrets(_given(self.webhook_secret, "WEBHOOK_SECRET").get_secret_value()),
            allowed_networks=self.webhook_allowed_networks,
        )

    @property
    def bootstrap_servers(self) -> list[str]:
        return list(_given(self.kafka_bootstrap_servers, "KAFKA_BOOTSTRAP_SERVERS"))

    def per_second(self, channel: Channel) -> float:
        """What all processes together may hand to the provider of a channel."""
        return {"email": self.email_per_second, "sms": self.sms_per_second, "webhook": self.webhook_per_second}[channel]


def _given(value: T | None, name: str) -> T:
    if value is None:
        raise ConfigurationError(f"{PREFIX}{name} is not set")
    return value


def read_settings(environment: Mapping[str, str], *, needs_database: bool = True) -> Settings:
    """The settings of this process. Raises ConfigurationError naming every unknown or wrong variable, in one text."""
    problems = _unknown(environment)
    settings = None
    try:
        settings = Settings() if needs_database else Settings(database_url=SecretStr("postgresql://nowhere"))
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False, include_context=False):
            name = PREFIX + str(problem["loc"][0]).upper()
            message = problem["msg"].removeprefix("Value error, ")
            problems.append(f"{name} is not set" if problem["type"] == "missing" else f"{name}: {message}")
    if settings is not None:
        problems += _contradictions(settings)
    if settings is None or problems:
        raise ConfigurationError("\n".join(problems))
    return settings


def _contradictions(settings: Settings) -> Iterator[str]:
    """Settings that are right one by one and wrong together. What only `run` needs may be missing, as everywhere."""
    if settings.lease < 2 * settings.smtp_timeout:
        # Or a second sender would take over a mail that the first is still handing over.
        yield f"{PREFIX}LEASE: should be at least twice {PREFIX}SMTP_TIMEOUT"
    if settings.smtp_answer_timeout < settings.smtp_timeout:
        yield f"{PREFIX}SMTP_ANSWER_TIMEOUT: is shorter than {PREFIX}SMTP_TIMEOUT"
    if settings.retry_first > settings.retry_longest:
        yield f"{PREFIX}RETRY_FIRST: is longer than {PREFIX}RETRY_LONGEST"
    policy = settings.policy
    if slow := [kind for kind in KINDS if policy.debounce_of(kind).at_most >= settings.stale_after]:
        # Or everything of these kinds would be told as if there had been an outage.
        yield f"{PREFIX}STALE_AFTER: should be longer than {PREFIX}DEBOUNCE lets {slow[0]} wait"
    if settings.stale_after <= timedelta(days=1) and policy.quiet_hours.keys() & set(policy.channels):
        yield f"{PREFIX}STALE_AFTER: should be longer than a day while there are {PREFIX}QUIET_HOURS"
    if settings.keep_days <= settings.feedback_days:
        yield f"{PREFIX}KEEP_DAYS: should be more than {PREFIX}FEEDBACK_DAYS"
    if "sms" in settings.channels:
        yield from _sms_contradictions(settings)
    if settings.webhook_url is not None:
        try:
            may_be_reached(settings.webhook_url, settings.webhook_allowed_networks)
        except ValueError as problem:
            yield f"{PREFIX}WEBHOOK_URL: {problem}"
    if "webhook" in settings.channels:
        for name in ("webhook_url", "webhook_secret"):
            if getattr(settings, name) is None:
                yield f"{PREFIX}{name.upper()} is not set, and {PREFIX}CHANNELS names webhook"


def _sms_contradictions(settings: Settings) -> Iterator[str]:
    needed = ["sms_provider", "sms_token", "sms_from"]
    match settings.sms_provider:
        case "twilio":
            needed += ["sms_account"]
        case "generic":
            needed += ["sms_url"]
        case None:
            pass
    for name in needed:
        if getattr(settings, name) is None:
            of = f" for {settings.sms_provider}" if settings.sms_provider else ""
            yield f"{PREFIX}{name.upper()} is not set{of}, and {PREFIX}CHANNELS names sms"


def _unknown(environment: Mapping[str, str]) -> list[str]:
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    problems = []
    for name in sorted(name for name in environment if name.startswith(PREFIX) and name not in known):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        problems.append(f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else ""))
    return problems
