import os
from datetime import time, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from backorder_notifier.errors import ConfigurationError
from backorder_notifier.policy import SETTLE, Debounce, Policy, QuietHours
from backorder_notifier.settings import Sender, Settings, SmsGateway, SmtpServer, read_settings, sender, smtp_server
from backorder_notifier.shown_settings import shown

REQUIRED = {"NOTIFIER_DATABASE_URL": "postgresql://u:hunter2@localhost/n"}
KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_KEY = "whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg=="


def read(monkeypatch: pytest.MonkeyPatch, **extra: str) -> Settings:
    for name in [name for name in os.environ if name.startswith("NOTIFIER_")]:
        monkeypatch.delenv(name)
    environment = REQUIRED | {f"NOTIFIER_{name}": value for name, value in extra.items()}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return read_settings(environment)


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp+starttls://u:p%40ss@mail.example.org:587", SmtpServer("mail.example.org", 587, "starttls", "u", "p@ss")),
        ("smtp+starttls://mail.example.org", SmtpServer("mail.example.org", 587, "starttls")),
        ("smtps://mail.example.org", SmtpServer("mail.example.org", 465, "tls")),
        ("smtp://127.0.0.1:2525", SmtpServer("127.0.0.1", 2525, "none")),
        ("smtp://[::1]", SmtpServer("::1", 25, "none")),
        ("smtp://localhost:1025/", SmtpServer("localhost", 1025, "none")),
    ],
)  # fmt: skip
def test_a_mail_server_is_read_from_its_url(url: str, server: SmtpServer) -> None:
    assert smtp_server(url) == server


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("smtp://mail.example.org:25", "clear text"),
        ("smtp://127.0.0.1.example.org", "clear text"),
        ("smtps://mail.example.org:587", "port 587 needs smtp\\+starttls"),
        ("smtp+starttls://mail.example.org:465", "port 465 needs smtps"),
        ("http://mail.example.org", "should be"),
        ("mail.example.org:587", "should be"),
        ("smtps://user:pa/ss@mail.example.org", "%2F|not a URL"),
        ("smtps://mail.example.org:port", "not a URL"),
    ],
)
def test_a_mail_server_that_would_leak_or_fail_is_refused(url: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        smtp_server(url)


def test_the_sender_may_have_a_name() -> None:
    assert sender("shop@example.org") == Sender("shop@example.org", None)
    assert sender("The Shop <shop@example.org>") == Sender("shop@example.org", "The Shop")
    assert sender('"Shop, The" <shop@example.org>') == Sender("shop@example.org", "Shop, The")
    for wrong in ("shop", "Shop shop@example.org", "a@b.org\r\nBcc: c@d.org", "<>", "Ev\u202eil <a@b.org>"):
        with pytest.raises(ValueError, match="should be"):
            sender(wrong)


def test_an_unknown_setting_is_refused_with_the_nearest_known_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ConfigurationError, match=r"NOTIFIER_SMTP_ULR is not a setting; did you mean NOTIFIER_SMTP_URL\?"
    ):
        read(monkeypatch, SMTP_ULR="smtp://localhost")


def test_all_that_is_wrong_is_said_at_once_and_no_secret_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(
            monkeypatch,
            DATABASE_URL="mysql://root:hunter2@db/x",
            SMTP_URL="smtp://user:hunter2@mail.example.org",
            HTTP_PORT="99999",
            START_AT="2026-11-02T09:00:00",
            KAFKA_BOOTSTRAP_SERVERS="kafka",
        )
    text = str(caught.value)
    for name in ("DATABASE_URL", "SMTP_URL", "HTTP_PORT", "START_AT", "KAFKA_BOOTSTRAP_SERVERS"):
        assert f"NOTIFIER_{name}" in text
    assert "hunter2" not in text


def test_bootstrap_servers_are_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, KAFKA_BOOTSTRAP_SERVERS="a:9092, b:9093").bootstrap_servers == ["a:9092", "b:9093"]


def test_a_lease_must_outlast_a_try_to_send(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="NOTIFIER_LEASE"):
        read(monkeypatch, LEASE="PT10S", SMTP_TIMEOUT="PT10S")


def test_what_is_needed_only_by_run_is_asked_for_by_run(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch)
    for name in ("smtp", "sender", "bootstrap_servers", "sms", "webhook"):
        with pytest.raises(ConfigurationError, match="is not set"):
            getattr(settings, name)


def test_without_any_setting_customers_are_told_by_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch).policy == Policy()


def test_the_policy_is_read_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(
        monkeypatch,
        CHANNELS="sms, email",
        SMS_PROVIDER="generic",
        SMS_URL="https://sms.example.org/send",
        SMS_TOKEN="hunter2",
        SMS_FROM="Shop",
        KINDS_OFF="feedback_request,delivered",
        DEBOUNCE='{"promise_changed": {"quiet": "PT5M", "at_most": "PT1H"},'
        ' "shipped": {"quiet": "PT0S", "at_most": "PT5S"}}',
        TELL_LATER_DAYS="1",
        TELL_EARLIER_DAYS="5",
        APPROACHING_DAYS="4",
        MISSED_DAYS="2",
        FEEDBACK_DAYS="14",
        TIMED_AT="10:30",
        QUIET_HOURS='{"sms": "20:00-09:30", "email": "01:00-05:00"}',
        DAILY_CAP="3",
        STALE_AFTER="P3D",
        START_AT="2026-11-02T09:00:00Z",
    )
    policy = settings.policy
    assert (policy.channels, policy.kinds_off) == (("sms", "email"), frozenset({"delivered", "feedback_request"}))
    assert policy.debounce_of("promise_changed") == Debounce(timedelta(minutes=5), timedelta(hours=1))
    assert policy.debounce_of("shipped") == Debounce(timedelta(0), timedelta(seconds=5))
    assert policy.debounce_of("backorder_filled") == SETTLE
    days = (policy.later_days, policy.earlier_days, policy.approaching_days, policy.missed_days, policy.feedback_days)
    assert days == (1, 5, 4, 2, 14)
    assert policy.timed_at == time(10, 30)
    assert policy.quiet_hours == {
        "sms": QuietHours(time(20), time(9, 30)),
        "email": QuietHours(time(1), time(5)),
    }
    assert (policy.daily_cap, policy.stale_after) == (3, timedelta(days=3))
    assert policy.start_at == settings.start_at


def test_a_default_debounce_is_for_the_kinds_that_have_none_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, DEBOUNCE='{"default": {"quiet": "PT1M", "at_most": "PT5M"}}')
    assert settings.policy.debounce_of("backorder_filled") == Debounce(timedelta(minutes=1), timedelta(minutes=5))
    assert settings.policy.debounce_of("promise_changed") == Policy().debounce_of("promise_changed")


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("CHANNELS", "email,fax", "some of email, sms, webhook"),
        ("CHANNELS", "email,email", "each once"),
        ("CHANNELS", ",", "some of email"),
        ("KINDS_OFF", "backorder_cancelled", "customers have to be told; what may be off is delivered"),
        ("KINDS_OFF", "deliverd", "no such kind"),
        ("DEBOUNCE", "PT5M", "should be JSON such as"),
        ("DEBOUNCE", '{"promise_changed": "PT5M"}', "should be as in"),
        ("DEBOUNCE", '{"promise_changed": {"quiet": "PT5H", "at_most": "PT1H"}}', "quiet is longer than at_most"),
        ("DEBOUNCE", '{"promise_changed": {"quiet": "soon", "at_most": "PT1H"}}', "a duration such as PT30M"),
        ("DEBOUNCE", '{"promise_changed": {"quiet": "-PT1S", "at_most": "PT1H"}}', "a duration such as PT30M"),
        ("DEBOUNCE", '{"promised": {"quiet": "PT5M", "at_most": "PT1H"}}', "promised: no such kind"),
        ("DEBOUNCE", '{"shipped": {"quiet": "P1D", "at_most": "P3D"}}', "STALE_AFTER: should be longer than"),
        ("STALE_AFTER", "P999999D", "STALE_AFTER: should be a positive duration such as PT30S or P5D, P3650D at most"),
        ("STALE_AFTER", "PT4H", "STALE_AFTER: should be longer than NOTIFIER_DEBOUNCE lets promise_changed wait"),
        ("TELL_LATER_DAYS", "0", "greater than or equal to 1"),
        ("TIMED_AT", "9", "a time such as 09:00"),
        ("TIMED_AT", "09:00+02:00", "a time such as 09:00"),
        ("TIMED_AT", "24:00", "a time such as 09:00"),
        ("QUIET_HOURS", "21:00-08:00", "should be JSON such as"),
        ("QUIET_HOURS", '{"fax": "21:00-08:00"}', "fax: no such channel"),
        ("QUIET_HOURS", '{"sms": "21-8"}', "sms: should be hours such as"),
        ("QUIET_HOURS", '{"sms": ["21:00", "08:00"]}', "sms: should be hours such as"),
        ("QUIET_HOURS", '{"sms": "08:00-08:00"}', "quiet all day"),
        ("DAILY_CAP", "0", "greater than or equal to 1"),
        ("TEMPLATES", "/nowhere/at/all", "is not a folder"),
        ("SHOP_NAME", "Shop\r\nBcc: all@example.org", "one line"),
        ("LOCALE_DEFAULT", "german!", "pattern"),
        ("PUBLIC_URL", "http://shop.example.org", "clear text"),
        ("PUBLIC_URL", "shop.example.org", "should be https://host/path"),
        ("PUBLIC_URL", "https://shop.example.org/?a=1", "without a \\?"),
        ("PUBLIC_URL", "https://user:hunter2@shop.example.org", "which listings and logs would show"),
        ("SMS_PROVIDER", "pigeon", "'twilio' or 'generic'"),
        ("SMS_URL", "http://sms.example.org", "clear text"),
        ("SMS_FROM", "A very long shop name", "up to 11 letters"),
        ("WEBHOOK_URL", "ftp://crm.example.org", "should be https"),
        ("WEBHOOK_URL", "http://crm.example.org", "only for networks in NOTIFIER_WEBHOOK_ALLOWED_NETWORKS"),
        ("WEBHOOK_URL", "https://10.1.2.3/hook", "an address that is not public"),
        ("WEBHOOK_SECRET", "hunter2", "should be whsec_ and 24 to 64 bytes"),
        ("WEBHOOK_SECRET", "whsec_aHVudGVyMg==", "should be whsec_ and 24 to 64 bytes"),
        ("WEBHOOK_SECRET", ",".join([KEY] * 3), "while one replaces the other"),
        ("WEBHOOK_ALLOWED_NETWORKS", "10.0.0.1/8", "networks such as"),
        ("EMAIL_PER_SECOND", "0", "greater than 0"),
        ("KEEP_DAYS", "7", "greater than or equal to 30"),
        ("RETRY_FIRST", "PT2H", "RETRY_FIRST: is longer than NOTIFIER_RETRY_LONGEST"),
    ],
)
def test_a_wrong_value_is_named_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        read(monkeypatch, **{name: value})
    assert f"NOTIFIER_{name}" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_channel_that_is_named_needs_what_it_sends_with(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(monkeypatch, CHANNELS="email,sms,webhook", SMS_PROVIDER="twilio")
    lacking = {line.partition(" ")[0].removeprefix("NOTIFIER_") for line in str(caught.value).splitlines()}
    assert lacking == {"SMS_FROM", "SMS_ACCOUNT", "SMS_TOKEN", "WEBHOOK_URL", "WEBHOOK_SECRET"}


def test_a_day_of_quiet_hours_must_not_make_everything_late(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="STALE_AFTER: should be longer than a day"):
        read(monkeypatch, STALE_AFTER="PT12H", QUIET_HOURS='{"email": "22:00-07:00"}')
    assert read(monkeypatch, STALE_AFTER="PT12H", QUIET_HOURS="{}").policy.quiet_hours == {}


def test_gateways_are_read_with_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(
        monkeypatch,
        SMS_PROVIDER="twilio",
        SMS_ACCOUNT="AC1",
        SMS_TOKEN="hunter2",
        SMS_FROM="+4915112345678",
        WEBHOOK_URL="https://crm.example.org/hooks?key=hunter2",
        WEBHOOK_SECRET=f"{KEY},{OTHER_KEY}",
        WEBHOOK_ALLOWED_NETWORKS="10.1.0.0/16, fd00::/8",
    )
    assert settings.sms == SmsGateway("twilio", None, "AC1", "hunter2", "+4915112345678")
    assert settings.webhook.secrets == (KEY, OTHER_KEY)
    assert settings.webhook.allowed_networks == (ip_network("10.1.0.0/16"), ip_network("fd00::/8"))
    everything = repr([shown(settings), settings.sms, settings.webhook])
    assert "hunter2" not in everything
    assert KEY not in everything


def test_settings_are_listed_as_they_would_be_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = {
        "DEBOUNCE": '{"default": {"quiet": "PT1M", "at_most": "PT4H"}}',
        "QUIET_HOURS": '{"sms": "20:00-09:30"}',
        "KINDS_OFF": "delivered,feedback_request",
        "TIMED_AT": "10:30",
        "STALE_AFTER": "P3D",
        "SMTP_TIMEOUT": "PT2.5S",
        "TEMPLATES": str(tmp_path),
        "CHANNELS": "email",
    }
    listed = {row.name.removeprefix("NOTIFIER_"): row for row in shown(read(monkeypatch, **given))}
    assert {name: listed[name].value for name in given} == given
    assert all(listed[name].is_set for name in given)
    assert (listed["QUIET_HOURS"].default, listed["DEBOUNCE"].default) == ('{"sms": "21:00-08:00"}', "{}")


def test_listing_and_repr_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, SMTP_URL="smtps://user:hunter2@mail.example.org")
    everything: list[Any] = [settings, settings.smtp, shown(settings), str(settings.model_dump())]
    assert "hunter2" not in repr(everything)
    assert {row.name for row in shown(settings)} >= {"NOTIFIER_START_AT", "NOTIFIER_DATABASE_URL"}
