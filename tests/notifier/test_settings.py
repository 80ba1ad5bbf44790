from typing import Any

import pytest

from backorder_notifier.errors import ConfigurationError
from backorder_notifier.settings import Sender, Settings, SmtpServer, read_settings, sender, shown, smtp_server

REQUIRED = {"NOTIFIER_DATABASE_URL": "postgresql://u:hunter2@localhost/n"}


def read(monkeypatch: pytest.MonkeyPatch, **extra: str) -> Settings:
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
    for name in ("smtp", "sender", "bootstrap_servers"):
        with pytest.raises(ConfigurationError, match="is not set"):
            getattr(settings, name)


def test_listing_and_repr_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, SMTP_URL="smtps://user:hunter2@mail.example.org")
    everything: list[Any] = [settings, settings.smtp, shown(settings), str(settings.model_dump())]
    assert "hunter2" not in repr(everything)
    assert {row.name for row in shown(settings)} >= {"NOTIFIER_START_AT", "NOTIFIER_DATABASE_URL"}
