"""Mails, messages and the state of the machine, as other terminals see them."""

import json
import smtplib
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from backorder_local import finder, services
from backorder_local.finder import Way, Wish
from backorder_local.place import place as make_place
from tests.local.command import Home, Up

ORDER = {
    "type": "OrderPlaced",
    "id": "shop/1001",
    "occurred_at": "2026-11-02T09:00:00Z",
    "order_id": "1001",
    "placed_at": "2026-11-02T09:00:00Z",
    "currency": "EUR",
    "customer": {"customer_id": "c-7"},
    "lines": [{"line_no": 1, "sku": "PHONE-X", "quantity": 15, "unit_price": "499.00"}],
}


def test_other_terminals_get_the_settings_that_the_services_were_started_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFIER_TIMED_AT", "12:00")
    monkeypatch.setenv("NOTIFIER_DATABASE_URL", "postgresql://another.example.org/stack")
    found = services.settings(
        kafka="127.0.0.1:9", postgres_url="postgresql://127.0.0.1:5/postgres", smtp="smtp://127.0.0.1:25", prefix="",
        allocator_port=0, notifier_port=0,
    )  # fmt: skip
    assert found["NOTIFIER_TIMED_AT"] == "12:00"
    assert found["NOTIFIER_DATABASE_URL"] == "postgresql://127.0.0.1:5/notifier"


def send_mail(smtp_url: str, to: str, subject: str, text: str) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "shop@example.org", to, subject
    message.set_content(text, cte="quoted-printable")
    message.add_alternative(f"<p>{text}</p>", subtype="html")
    address = urlsplit(smtp_url)
    with smtplib.SMTP(address.hostname or "", address.port or 0) as client:
        client.send_message(message)


def test_mails_are_listed_filtered_and_shown_also_when_nothing_runs_any_more(home: Home) -> None:
    data = home.folder / "data"
    for _ in ("a start", "another on the same folder"):
        with make_place(data) as somewhere, finder.mail(somewhere, Wish(Way.EMBEDDED), lambda _text: None) as sink:
            sink.wait()
            send_mail(sink.address, "ada@example.org", "Ihre Bestellung 1001 verspätet sich", "Wir liefern später.")
            send_mail(sink.address, "bob@example.org", "Your order 1002", "It is on its way.")
    folder = ("--data-dir", data)
    listed = home.run("mail", *folder).stdout.splitlines()
    assert [line.split("\t")[0::2] for line in listed[:2]] == [["1", "ada@example.org"], ["2", "bob@example.org"]]
    assert len(listed) == 4
    assert home.run("mail", "--to", "BOB@", *folder).stdout.splitlines() == listed[1::2]
    assert home.run("mail", "--order", "1001", *folder).stdout.splitlines() == listed[0::2]
    assert home.run("mail", "--order", "100", *folder).stdout == ""
    assert home.run("mail", "--order", "001", *folder).stdout == ""
    as_json = json.loads(home.run("mail", "--json", *folder).stdout)
    assert [mail["id"] for mail in as_json] == [1, 2, 3, 4]
    assert as_json[0].keys() == {"id", "received_at", "from", "to", "subject", "message_id"}
    times = [datetime.fromisoformat(mail["received_at"]) for mail in as_json]
    assert times == sorted(times)
    assert datetime.now(UTC) - times[0] < timedelta(minutes=2)
    shown = home.run("mail", "show", "1", *folder).stdout
    assert "Subject: Ihre Bestellung 1001 verspätet sich" in shown
    assert shown.endswith("\n\nWir liefern später.\n")
    assert json.loads(home.run("mail", "show", "1", "--json", *folder).stdout)["html"] == "<p>Wir liefern später.</p>\n"
    missing = home.run("mail", "show", "5", *folder)
    assert (missing.returncode, missing.stdout) == (1, "")


def test_mails_of_the_running_stack_are_found_without_a_folder(running: Up, shared_home: Home) -> None:
    send_mail(shared_home.variables()["BACKORDER_SMTP"], "eve@example.org", "Hello", "Text")
    assert "eve@example.org" in shared_home.run("mail", "--to", "eve@").stdout


def test_without_a_stack_it_is_said_how_to_start_one(home: Home) -> None:
    for command in (("mail",), ("env",), ("read", "orders"), ("send", "orders")):
        result = home.run(*command)
        assert result.returncode == 2
        assert "backorder up" in result.stderr


async def test_messages_are_sent_with_the_key_of_their_topic_and_read_back(running: Up, shared_home: Home) -> None:
    kafka = shared_home.variables()["BACKORDER_KAFKA"]
    assert "Topics are made by" in shared_home.run("send", "orders", given=json.dumps(ORDER)).stderr
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic("orders", 6, 1)])
    await admin.close()
    orders = [json.dumps(ORDER | {"order_id": str(number), "id": f"shop/{number}"}) for number in range(1001, 1021)]
    sent = shared_home.run("send", "orders", given="\n".join(orders))
    assert (sent.returncode, sent.stderr) == (0, "20 sent to orders\n")
    read = shared_home.run("read", "orders")
    assert sorted(read.stdout.splitlines()) == orders
    wrong = shared_home.run("send", "orders", given=f'{orders[0]}\n{{"type": "OrderPlaced"}}\n')
    assert wrong.returncode == 2
    assert "Line 2" in wrong.stderr
    assert "There is no topic 'order'" in shared_home.run("send", "order").stderr
    assert len(shared_home.run("read", "orders").stdout.splitlines()) == 20


def test_doctor_finds_this_machine_fit_and_sees_the_running_stack(running: Up, shared_home: Home) -> None:
    result = shared_home.run("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(result.stdout)}
    assert result.returncode == 0, result.stdout
    expected = {
        "python",
        "memory",
        "disk",
        "cache",
        "ports",
        "docker",
        "java",
        "postgresql",
        "kafka",
        "services",
        "stacks",
    }
    assert expected == checks.keys()
    assert str(shared_home.folder / "data") in checks["stacks"]["detail"]


def test_doctor_names_what_is_wrong_and_the_way_out(home: Home, tmp_path: Path) -> None:
    result = home.run(
        "doctor",
        "--json",
        BACKORDER_CACHE_DIR=str(tmp_path / "empty"),
        BACKORDER_MAVEN_URL="http://127.0.0.1:1",
        HTTPS_PROXY="",
    )
    [wrong] = [check for check in json.loads(result.stdout) if check["status"] == "fail"]
    assert result.returncode == 1
    assert wrong["name"] == "kafka"
    assert "BACKORDER_MAVEN_URL" in wrong["way_out"]
