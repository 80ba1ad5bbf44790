"""Settings: what is wrong is named, with the way out, and no secret is shown."""

from datetime import timedelta
from decimal import Decimal

import pytest

from backorder_allocator import settings
from backorder_allocator.errors import ConfigurationError
from backorder_allocator.ranking import ValueRule

GOOD = {
    "ALLOCATOR_DATABASE_URL": "postgresql://shop:s3cret@db.example:5433/allocator?sslmode=require",
    "ALLOCATOR_KAFKA_BOOTSTRAP_SERVERS": "a.example:9092, b.example:9092",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    import os

    for name in [name for name in os.environ if name.startswith("ALLOCATOR_")]:
        monkeypatch.delenv(name)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def problem(environment: pytest.MonkeyPatch, name: str, value: str) -> str:
    environment.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        settings.load()
    return str(caught.value)


def test_servers_are_a_list_and_the_password_is_never_shown(environment: pytest.MonkeyPatch) -> None:
    loaded = settings.load()
    assert loaded.kafka_bootstrap_servers == ["a.example:9092", "b.example:9092"]
    assert "s3cret" not in str(settings.shown(loaded)) + repr(loaded)
    assert settings.shown(loaded)["ALLOCATOR_DATABASE_URL"] == "postgresql://shop:***@db.example:5433/allocator"


def test_head_starts_are_read_as_json_with_iso_durations(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ALLOCATOR_HEAD_STARTS", '{"gold": "P2D", "platinum": "P5D"}')
    environment.setenv(
        "ALLOCATOR_ORDER_VALUE_HEAD_STARTS", '[{"from": "500.00", "currency": "EUR", "head_start": "P1D"}]'
    )
    rules = settings.load().head_start_rules()
    assert rules.by_segment == {"gold": timedelta(days=2), "platinum": timedelta(days=5)}
    assert rules.by_value == (ValueRule(Decimal("500.00"), "EUR", timedelta(days=1)),)


def test_an_unknown_setting_is_refused_with_the_nearest_known_one(environment: pytest.MonkeyPatch) -> None:
    assert "did you mean ALLOCATOR_HTTP_PORT?" in problem(environment, "ALLOCATOR_HTTP_PROT", "1")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ALLOCATOR_DATABASE_URL", "mysql://shop:s3cret@db/x", "does not begin with postgresql://"),
        ("ALLOCATOR_KAFKA_BOOTSTRAP_SERVERS", "", "names no server"),
        ("ALLOCATOR_KAFKA_BOOTSTRAP_SERVERS", "host", "'host' is not host:port"),
        ("ALLOCATOR_HTTP_PORT", "70000", "less than or equal to 65535"),
        ("ALLOCATOR_TOPIC_PREFIX", "a/b", "pattern"),
        ("ALLOCATOR_HEAD_STARTS", '{"gold": "-P2D"}', "ALLOCATOR_HEAD_STARTS.gold"),
        ("ALLOCATOR_HEAD_STARTS", "{gold", "written as JSON"),
        ("ALLOCATOR_ORDER_VALUE_HEAD_STARTS", '[{"from": "x", "currency": "EUR", "head_start": "P1D"}]', "0.from"),
        ("ALLOCATOR_LOG_LEVEL", "loud", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_wrong(
    environment: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    text = problem(environment, name, value)
    assert name in text or "ALLOCATOR_…" in text
    assert said in text
    assert "s3cret" not in text


def test_a_missing_setting_is_named_with_what_it_is(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("ALLOCATOR_DATABASE_URL")
    with pytest.raises(ConfigurationError, match=r"ALLOCATOR_DATABASE_URL: is not set; it is postgresql://"):
        settings.load()
