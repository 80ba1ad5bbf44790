"""The demo: what it counts, and one run of it from the command to the last process gone."""

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import asyncpg
import psutil  # type: ignore[import-untyped]
import pytest

from backorder_local import measure, progress, replay
from backorder_local.demo import decided, nothing_is_left
from backorder_local.mail_store import Mail
from backorder_local.measure import Latency, Ledger
from backorder_local.progress import Standing
from backorder_local.summary import Decided
from backorder_schemas import (
    AllocationReleased,
    BackorderCancelled,
    BackorderCreated,
    BackorderFilled,
    CustomerNotified,
    NotificationFailed,
    ReleasedLine,
)
from tests.local.command import BACKORDER, DEADLINE_SECONDS, Home, commands, eventually, one_that_runs

AT = datetime(2026, 3, 1, 9, tzinfo=UTC)


def common(id_: str, caused_by: str, order_id: str = "1") -> dict[str, Any]:
    return {
        "id": id_, "occurred_at": AT, "version": 1, "epoch": 1, "caused_by": caused_by, "order_id": order_id,
    }  # fmt: skip


def line(id_: str, caused_by: str, order_id: str = "1", line_no: int = 1) -> dict[str, Any]:
    return common(id_, caused_by, order_id) | {"line_no": line_no, "sku": "A", "location": "main"}


def created(id_: str, caused_by: str, units: int, order_id: str = "1") -> BackorderCreated:
    return BackorderCreated(
        **line(id_, caused_by, order_id),
        quantity=units,
        quantity_waiting=units,
        quantity_ordered=9,
        quantity_allocated=0,
        kind="backorder",
        reason="ordered",
    )


def filled(id_: str, caused_by: str, units: int, left: int, order_id: str = "1") -> BackorderFilled:
    return BackorderFilled(**line(id_, caused_by, order_id), quantity=units, quantity_waiting=left)


def notified(id_: str, about: str, order_id: str = "1") -> CustomerNotified:
    return CustomerNotified(
        **common(id_, about, order_id), kind="backorder_created", channel="email", attempts=1, about=(about,)
    )


def mail(order_id: str, at_ms: int) -> Mail:
    message = EmailMessage()
    message["Subject"] = f"Order {order_id}: 1 unit will come later"
    return Mail(1, datetime.fromtimestamp(at_ms / 1000, UTC), "shop@x", ("a@x",), message.as_bytes())


def test_a_ledger_counts_units_lines_and_who_waits_and_each_message_once() -> None:
    ledger = Ledger({"placed/1": "1"})
    release = AllocationReleased(
        **common("e0", "placed/1"),
        release_no=1,
        complete=False,
        lines=(ReleasedLine(line_no=1, sku="A", location="main", quantity=4),),
    )
    later_release = release.model_copy(update={"id": "e9", "caused_by": "receipt"})
    for message in (
        release,
        later_release,
        created("e1", "placed/1", 5),
        created("e1", "placed/1", 5),
        filled("e2", "receipt", 2, 3),
        BackorderCancelled(**line("e3", "cancel"), quantity=1, quantity_waiting=2, by="customer"),
        created("e4", "adjustment", 1).model_copy(update={"reason": "stock_lost", "quantity_waiting": 3}),
        created("e5", "placed/2", 7, "2"),
        filled("e6", "receipt", 7, 0, "2"),
    ):
        ledger.take(message, 1_000)
    assert ledger.units == {
        "at_once": 4, "waited": 12, "filled": 9, "cancelled_waiting": 1, "stock_lost": 1,
    }  # fmt: skip
    assert ledger.waited_lines == {("1", 1), ("2", 1)}
    assert ledger.waiting == {("1", 1): 3, ("2", 1): 0}
    assert ledger.lines_waiting == 1
    assert ledger.sku_waiting == {"A": {("1", 1)}}
    assert ledger.untold == {"e1", "e2", "e3", "e4", "e5", "e6"}


def test_an_event_is_told_even_if_the_outcome_is_read_before_it() -> None:
    ledger = Ledger({})
    ledger.take(notified("n1", "e1"), 2_000)
    ledger.take(created("e1", "placed/1", 5), 1_000)
    ledger.take(created("e2", "placed/2", 5, "2"), 1_000)
    assert ledger.untold == {"e2"}
    ledger.take(
        NotificationFailed(
            **common("n2", "e2", "2"), kind="backorder_created", channel="email", attempts=0, reason="no_email",
            about=("e2",),
        ),
        3_000,
    )  # fmt: skip
    assert not ledger.untold
    assert [each.order_id for each in ledger.sent] == ["1"]


def test_what_is_not_told_or_told_later_is_what_the_notifier_says_of_events_that_concern_customers() -> None:
    rows: list[dict[str, Any]] = [
        {"kind": "backorder_created", "state": "told", "reason": None, "updates": 7},
        {"kind": "backorder_created", "state": "not_told", "reason": "no_email", "updates": 2},
        {"kind": "promise_changed", "state": "superseded", "reason": "later_date", "updates": 3},
        {"kind": "promise_changed", "state": "pending", "reason": None, "updates": 4},
        {"kind": None, "state": "not_told", "reason": "never_waited", "updates": 5},
    ]
    assert decided(rows) == Decided(events=12, later=4, not_told={"no_email": 2})


@pytest.mark.parametrize(
    ("waits", "nothing"),
    [
        ({}, True),
        ({"orders_to_decide": 1}, False),
        ({"deliveries_due": 1}, False),
        ({"outcomes_unpublished": 1}, False),
        ({"updates_pending": 1, "next_decision": 2}, False),
        ({"updates_pending": 1, "next_decision": 1800}, True),  # more of the same may come first
        ({"next_decision": 2}, True),  # a reminder, of which nothing was said so far
    ],
)
def test_nothing_is_left_when_there_is_nothing_to_decide_soon_nor_to_send_nor_to_publish(
    waits: dict[str, int], nothing: bool
) -> None:
    names = ("updates_pending", "orders_to_decide", "deliveries_due", "outcomes_unpublished")
    soon = waits.pop("next_decision", None)
    at = None if soon is None else (datetime.now(UTC) + timedelta(seconds=soon)).isoformat()
    assert nothing_is_left(dict.fromkeys(names, 0) | waits | {"next_decision": at}) is nothing


def test_latencies_are_the_nearest_ranks() -> None:
    assert measure.latency([]) is None
    assert measure.latency([7]) == Latency(1, 7, 7)
    assert measure.latency(list(range(100, 0, -1))) == Latency(100, 50, 99)
    assert measure.latency(list(range(1, 1001))) == Latency(1000, 500, 990)


def test_a_fill_is_measured_from_the_receipt_that_caused_it_and_not_from_a_cancel() -> None:
    ledger = Ledger({})
    ledger.take(filled("e1", "receipt/A/1", 1, 0), 1_500)
    ledger.take(filled("e2", "cancel/7", 1, 0), 9_000)
    assert measure.receipt_to_filled(ledger, {"receipt/A/1": 1_400, "receipt/A/2": 0}) == Latency(1, 100, 100)


def test_the_nth_mail_of_an_order_is_the_nth_that_was_told() -> None:
    ledger = Ledger({})
    ledger.take(created("e1", "placed/1001", 5, "1001"), 1_000)
    ledger.take(filled("e2", "receipt", 5, 0, "1001"), 2_000)
    ledger.take(created("e3", "placed/1002", 5, "1002"), 3_000)
    for message in (notified("n1", "e1", "1001"), notified("n2", "e2", "1001"), notified("n3", "e3", "1002")):
        ledger.take(message, 5_000)
    mails = [mail("1001", 1_010), mail("1002", 3_300), mail("1001", 2_020), mail("10017", 9_999)]
    assert measure.event_to_mail(ledger, mails, {"1001", "1002"}) == Latency(3, 20, 300)
    twice = [*mails, mail("1002", 4_000)]
    assert measure.event_to_mail(ledger, twice, {"1001", "1002"}) == Latency(2, 10, 20)


def test_a_pace_without_speed_waits_for_nothing_and_one_with_speed_for_its_part() -> None:
    assert replay.Pace(AT, None).seconds_until(AT.replace(year=2027)) == 0
    pace = replay.Pace(AT, 3600)
    assert pace.seconds_until(AT) == pytest.approx(0, abs=0.1)
    assert pace.seconds_until(AT.replace(hour=11)) == pytest.approx(2, abs=0.1)


def test_progress_elsewhere_than_on_a_terminal_is_plain_lines_and_not_too_many(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress.shown() as show:
        for number in range(50):
            show(Standing(number, 50, AT, 1, 2, 3, 4, 3))
        for _ in range(3):
            show(Standing(50, 50, AT, 1, 2, 4, 4, 4))
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "  50 of 50 orders (2026-03-01 09:00), 1 lines wait, 2 units filled, 4 of 4 events told\n"


@dataclass(frozen=True)
class Running:
    process: "subprocess.Popen[bytes]"
    out: Path
    err: Path

    def descendants(self) -> list[psutil.Process]:
        return list(psutil.Process(self.process.pid).children(recursive=True))


@contextmanager
def demo(home: Home, *arguments: str | Path, until: str) -> Iterator[Running]:
    """`backorder demo` from the moment it says `until` on stderr."""
    out, err = home.folder / "out", home.folder / "err"
    with out.open("wb") as output, err.open("wb") as errors:
        process = subprocess.Popen(
            [BACKORDER, "demo", *arguments], env=home.environment(), stdout=output, stderr=errors
        )
        try:
            eventually(lambda: until in err.read_text() or process.poll() is not None, err.read_text)
            assert process.poll() is None, err.read_text()
            yield Running(process, out, err)
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(DEADLINE_SECONDS)


def ends_with_nothing_left(running: Running, home: Home) -> None:
    left = running.descendants()
    assert "kafka.Kafka" in commands(left)
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(DEADLINE_SECONDS) == 130, running.err.read_text()
    assert commands(left) == ""
    assert list((home.folder / "tmp").glob("backorder-*")) == []
    assert "Traceback" not in running.err.read_text()
    assert "exception was never retrieved" not in running.err.read_text()
    assert running.err.read_text().endswith("Ended.\n")


async def test_a_demo_says_what_the_topics_the_database_and_the_sink_say(home: Home) -> None:
    with demo(home, "--lines", "500", "--json", "--keep", until="Ctrl-C") as running:
        said = json.loads(running.out.read_text())
        env = json.loads(home.run("env", "--json").stdout)
        orders, receipts, events, releases, told = (
            [json.loads(each) for each in home.run("read", topic).stdout.splitlines()]
            for topic in ("orders", "stock-received", "backorders", "allocations", "notifications")
        )
        placed = [each for each in orders if each["type"] == "OrderPlaced"]
        lines = [bought for each in placed for bought in each["lines"]]
        assert (said["orders"], said["lines"]) == (len(placed), len(lines))
        assert 480 < said["lines"] < 520
        assert said["units"] == sum(bought["quantity"] for bought in lines)
        assert said["receipts"] == len(receipts)
        assert said["cancels"] == len(orders) - len(placed)
        units: Counter[str] = Counter()
        for event in events:
            units[event["type"]] += event["quantity"]
        assert said["units_waited"] == units["BackorderCreated"] > 0
        assert said["units_filled"] == units["BackorderFilled"] > 0
        assert said["lines_waited"] == len({(each["order_id"], each["line_no"]) for each in events})
        assert 0.04 < said["lines_waited"] / said["lines"] < 0.09
        assert said["receipt_to_filled"]["count"] > 0
        assert 0 < said["receipt_to_filled"]["p50_ms"] <= said["receipt_to_filled"]["p99_ms"] < 10_000

        first = {each["order_id"]: f"placed/{each['order_id']}" for each in placed}
        at_once = [
            each["quantity"]
            for release in releases
            if release["caused_by"] == first[release["order_id"]]
            for each in release["lines"]
        ]
        assert said["units_allocated_at_once"] == sum(at_once)
        assert said["units_allocated_at_once"] + said["units_waited"] == said["units"]

        connection = await asyncpg.connect(env["ALLOCATOR_DATABASE_URL"])
        rows = await connection.fetchrow(
            "SELECT count(*), sum(quantity_ordered), sum(quantity_waiting), sum((quantity_waiting > 0)::int) FROM lines"
        )
        await connection.close()
        assert tuple(rows) == (said["lines"], said["units"], said["units_waiting"], said["lines_waiting"])

        mails = json.loads(home.run("mail", "--json").stdout)
        assert said["mails_sent"] == len(mails) == len(told) == said["event_to_mail"]["count"]
        assert all(to.endswith("@example.org") for each in mails for to in each["to"])
        about = [event_id for each in told for event_id in each["about"]]
        also = set(about) - {event["id"] for event in events}  # units that were there and were cancelled
        assert also <= {each["id"] for each in releases if each["type"] == "AllocationRevoked"}
        assert len(about) == len(set(about)) == len(events) + len(also)
        assert (said["events_untold"], said["events_told_later"], said["events_not_told"]) == (0, 0, {})
        assert said["audit"]["clean"]
        assert said["audit"]["checked"] > 500
        ends_with_nothing_left(running, home)


def test_ctrl_c_in_the_middle_of_a_replay_ends_everything(home: Home) -> None:
    with demo(home, "--lines", "500", "--speed", "60", until=" orders (") as running:
        ends_with_nothing_left(running, home)
    assert running.out.read_text() == ""


def test_a_kafka_that_dies_in_the_middle_is_named(home: Home) -> None:
    with demo(home, "--lines", "500", "--speed", "60", until=" orders (") as running:
        left = running.descendants()
        kafka = one_that_runs("java", left)
        kafka.kill()
        assert running.process.wait(DEADLINE_SECONDS) == 1
        assert "Kafka: ended by itself" in running.err.read_text()
        assert "Traceback" not in running.err.read_text()
        assert commands(left) == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "missing.parquet"], "can't be read"),
        (["--data", __file__], "can't be read as parquet"),
        (["--speed", "0"], "--speed must be above 0"),
    ],
)
def test_wrong_wishes_are_answered_in_one_line_before_anything_starts(
    home: Home, arguments: list[str], words: str
) -> None:
    result = home.run("demo", *arguments)
    assert result.returncode == 2
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
