"""Settings from environment variables with the prefix ALLOCATOR_, read here once and passed on as plain values."""

import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from backorder_allocator.decision import Rules
from backorder_allocator.errors import ConfigurationError
from backorder_allocator.promises import PromiseRules
from backorder_allocator.ranking import HeadStartRules, ValueRule
from backorder_allocator.state import Policy
from backorder_schemas.fields import MAX_DAYS, Days, Ids, QuantityOrZero

PREFIX = "ALLOCATOR_"
NotNegative = Annotated[timedelta, Field(ge=timedelta(0))]
DayCount = Annotated[float, Field(ge=0, le=MAX_DAYS, allow_inf_nan=False)]
"""Days as a number, which may be a fraction."""


class OrderValueHeadStart(BaseModel):
    """Orders from this value on, in this currency, get this head start."""

    model_config = ConfigDict(extra="forbid")

    at_least: Decimal = Field(alias="from", gt=0)
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    head_start: NotNegative


class DefaultPolicy(BaseModel):
    """The policy of SKUs that have none: the fields of `SkuPolicyChanged` that don't speak of one SKU."""

    model_config = ConfigDict(extra="forbid", strict=True)

    backorders: Literal["allow", "deny"] = "allow"
    waiting_limit: QuantityOrZero | None = None
    max_wait_days: Days | None = None
    safety_stock: QuantityOrZero = 0
    low_stock_at: QuantityOrZero | None = None
    default_lead_time_days: Days | None = None
    substitutes: Ids = ()

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, given: object) -> object:
        return {name: value for name, value in given.items() if value is not None} if isinstance(given, dict) else given

    @field_validator("backorders", mode="before")
    @classmethod
    def _preorders_are_of_one_sku(cls, value: object) -> object:
        if value == "preorder":
            raise ValueError("preorder needs a release date, which is of one SKU: send its SkuPolicyChanged")
        return value


class Settings(BaseSettings):
    """Everything that can be set. Durations are ISO 8601, such as P2D."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", hide_input_in_errors=True)

    database_url: SecretStr = Field(description="postgresql://user:password@host:port/database")
    kafka_bootstrap_servers: Annotated[list[str], NoDecode, Field(description="host:port,host2:port")]
    topic_prefix: str = Field("", pattern=r"^[A-Za-z0-9._-]{0,100}$", description="before every topic and group name")
    http_host: str = Field("127.0.0.1", description="address of the HTTP endpoints")
    http_port: int = Field(8081, ge=0, le=65535, description="0: a free one, logged")
    head_starts: dict[str, NotNegative] = Field(default={}, description='by segment: {"gold": "P2D"}')
    order_value_head_starts: list[OrderValueHeadStart] = Field(
        default=[], description='[{"from": "500.00", "currency": "EUR", "head_start": "P1D"}]; the larger counts'
    )
    default_policy: DefaultPolicy = Field(
        default=DefaultPolicy(), description="fields of SkuPolicyChanged as JSON, for SKUs without a policy"
    )
    complete_escalates_after_days: DayCount | None = Field(
        default=None, description="from placed_at until a `complete` order that still waits becomes `split`"
    )
    handling_days: DayCount = Field(0, description="from a supply's date to the promised date")
    overdue_supply: Literal["ignore"] | float = Field(
        "ignore", description="ignore (no promise leans on it), or days from now until it counts as coming"
    )
    planner_interval_seconds: float = Field(
        0.5,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="from one run of the planner to the next at least",
    )
    topic_replication: int = Field(1, ge=1, le=32767, description="replication of topics that `topics --apply` makes")
    max_batch_records: int = Field(4000, ge=1, le=10000, description="records in one transaction at most")
    dead_letters_keep_days: float = Field(
        30,
        gt=0,
        le=MAX_DAYS,
        allow_inf_nan=False,
        description="dead letters older than that are forgotten, once they are published",
    )
    max_unpublished: int = Field(
        1_000_000, ge=1, description="events committed and not published at most, before input stands still"
    )
    start_timeout_seconds: float = Field(30.0, ge=0, description="how long to wait for the database and Kafka at start")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="of the JSON lines on stderr")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (env_settings,)

    @field_validator("kafka_bootstrap_servers", mode="before")
    @classmethod
    def _split_servers(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _check_servers(cls, servers: list[str]) -> list[str]:
        if not servers:
            raise ValueError("names no server; it is a list such as host:9092,host2:9092")
        for server in servers:
            host, _, port = server.rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError(f"{server!r} is not host:port")
        return servers

    @field_validator("database_url")
    @classmethod
    def _check_database(cls, url: SecretStr) -> SecretStr:
        if urlsplit(url.get_secret_value()).scheme not in {"postgresql", "postgres"}:
            raise ValueError("does not begin with postgresql://")
        return url

    @field_validator("overdue_supply", mode="before")
    @classmethod
    def _ignore_or_days(cls, value: object) -> object:
        if value == "ignore":
            return value
        with suppress(ValueError):
            if 0 <= (days := float(str(value))) <= MAX_DAYS:
                return days
        raise ValueError(f"should be `ignore` or a number of days from 0 to {MAX_DAYS}")

    @model_validator(mode="after")
    def _check_topic_length(self) -> Self:
        if self.topic_prefix in {".", ".."}:
            raise ValueError("TOPIC_PREFIX: Kafka refuses names that begin with it")
        return self

    def head_start_rules(self) -> HeadStartRules:
        """The head starts as the ranking uses them."""
        return HeadStartRules(
            dict(self.head_starts),
            tuple(ValueRule(rule.at_least, rule.currency, rule.head_start) for rule in self.order_value_head_starts),
        )

    def rules(self) -> Rules:
        """The rules of the shop as decisions and the planner use them."""
        overdue, escalates = self.overdue_supply, self.complete_escalates_after_days
        return Rules(
            head_starts=self.head_start_rules(),
            promises=PromiseRules(
                handling=timedelta(self.handling_days),
                overdue_after=None if overdue == "ignore" else timedelta(overdue),
            ),
            default_policy=Policy(**self.default_policy.model_dump()),
            escalates_after=None if escalates is None else timedelta(escalates),
        )


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings. Raises ConfigurationError that names each wrong variable and never shows a secret."""
    environment = os.environ if environment is None else environment
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise ConfigurationError("; ".join(_unknown(name, known) for name in unknown))
    try:
        return Settings()
    except ValidationError as error:
        raise ConfigurationError("; ".join(_problem(each) for each in error.errors(include_url=False))) from None
    except Exception as error:
        # pydantic-settings reports JSON that can't be parsed with an error of its own, which names the field only.
        raise ConfigurationError(f"{PREFIX}…: {error}; values with a structure are written as JSON") from None


def _unknown(name: str, known: set[str]) -> str:
    close = get_close_matches(name, known, 1)
    return f"{name}: there is no such setting" + (f"; did you mean {close[0]}?" if close else "")


def _problem(error: Any) -> str:
    where = [str(part) for part in error["loc"]]
    name = PREFIX + where[0].upper() if where else PREFIX + "…"
    inside = "." + ".".join(where[1:]) if len(where) > 1 else ""
    if error["type"] == "missing" and not inside:
        described = Settings.model_fields[where[0]].description
        return f"{name}: is not set; it is {described}"
    return f"{name}{inside}: {error['msg'].removeprefix('Value error, ')}"


def shown(settings: Settings) -> dict[str, Any]:
    """All settings by variable name, as JSON values; the password of the database is masked."""
    values = settings.model_dump(mode="json", by_alias=True)
    values["database_url"] = masked(settings.database_url.get_secret_value())
    values["kafka_bootstrap_servers"] = ",".join(settings.kafka_bootstrap_servers)
    return {PREFIX + name.upper(): value for name, value in values.items()}


def masked(url: str) -> str:
    """A database URL without its password and its query, which may carry one."""
    parts = urlsplit(url)
    user = f"{parts.username}:***@" if parts.password else f"{parts.username}@" if parts.username else ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{user}{parts.hostname or ''}{port}{parts.path}"
