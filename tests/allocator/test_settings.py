"""Settings: what is wrong is named, with the way out, and no secret is shown."""

from datetime import timedelta
from decimal import Decimal

import pytest

from backorder_allocator import settings
from backorder_allocator.decision import Rules
from backorder_allocator.errors import ConfigurationError
from backorder_allocator.promises import PromiseRules
from backorder_allocator.ranking import HeadStartRules, ValueRule
from backorder_allocator.state import Policy

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


def test_rules_without_any_setting_let_everybody_wait_and_lean_on_no_overdue_supply(
    environment: pytest.MonkeyPatch,
) -> None:
    assert settings.load().rules() == Rules(HeadStartRules(), PromiseRules(), Policy(), None)


def test_rules_are_read_from_the_settings(environment: pytest.MonkeyPatch) -> None:
    environment.setenv(
        "ALLOCATOR_DEFAULT_POLICY",
        '{"backorders": "deny", "waiting_limit": 0, "max_wait_days": 30, "safety_stock": 2, "low_stock_at": 5, '
        '"default_lead_time_days": 14, "substitutes": ["B", "C"]}',
    )
    environment.setenv("ALLOCATOR_COMPLETE_ESCALATES_AFTER_DAYS", "0.5")
    environment.setenv("ALLOCATOR_HANDLING_DAYS", "2")
    environment.setenv("ALLOCATOR_OVERDUE_SUPPLY", "7")
    environment.setenv("ALLOCATOR_HEAD_STARTS", '{"gold": "P2D"}')
    assert settings.load().rules() == Rules(
        HeadStartRules({"gold": timedelta(days=2)}),
        PromiseRules(handling=timedelta(days=2), overdue_after=timedelta(days=7)),
        Policy("deny", 0, 30, 2, 5, None, 14, ("B", "C")),
        timedelta(hours=12),
    )


def test_in_the_default_policy_null_is_the_same_as_leaving_a_field_out(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ALLOCATOR_DEFAULT_POLICY", '{"waiting_limit": null, "safety_stock": null, "substitutes": null}')
    assert settings.load().rules().default_policy == Policy()


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
        (
            "ALLOCATOR_DEFAULT_POLICY",
            '{"backorders": "preorder"}',
            "preorder needs a release date, which is of one SKU",
        ),
        ("ALLOCATOR_DEFAULT_POLICY", '{"backorders": "maybe"}', "ALLOCATOR_DEFAULT_POLICY.backorders"),
        ("ALLOCATOR_DEFAULT_POLICY", '{"waiting_limit": -1}', "ALLOCATOR_DEFAULT_POLICY.waiting_limit"),
        ("ALLOCATOR_DEFAULT_POLICY", '{"max_wait_days": "30"}', "ALLOCATOR_DEFAULT_POLICY.max_wait_days"),
        ("ALLOCATOR_DEFAULT_POLICY", '{"safty_stock": 1}', "ALLOCATOR_DEFAULT_POLICY.safty_stock"),
        ("ALLOCATOR_DEFAULT_POLICY", '{"sku": "A", "revision": 1}', "ALLOCATOR_DEFAULT_POLICY.sku"),
        ("ALLOCATOR_DEFAULT_POLICY", "deny", "written as JSON"),
        ("ALLOCATOR_COMPLETE_ESCALATES_AFTER_DAYS", "-1", "greater than or equal to 0"),
        ("ALLOCATOR_COMPLETE_ESCALATES_AFTER_DAYS", "nan", "finite"),
        ("ALLOCATOR_HANDLING_DAYS", "two", "valid number"),
        ("ALLOCATOR_OVERDUE_SUPPLY", "never", "should be `ignore` or a number of days"),
        ("ALLOCATOR_OVERDUE_SUPPLY", "nan", "should be `ignore` or a number of days"),
        ("ALLOCATOR_OVERDUE_SUPPLY", "-1", "or a number of days from 0 to 36500"),
        ("ALLOCATOR_PLANNER_INTERVAL_SECONDS", "inf", "finite"),
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
