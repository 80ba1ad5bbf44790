"""The commands as an operator runs them: processes with exit codes, JSON with stable keys, clear errors."""

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from backorder_allocator import cli, dead_letters, statements, telemetry
from backorder_allocator.answers import suppliers
from backorder_allocator.batches import Record, work
from backorder_allocator.connections import SESSION
from backorder_allocator.interventions import Asked
from backorder_allocator.redriving import drive
from tests.allocator.stored_shop import StoredShop, a_week, day
from tests.allocator.strategies import START
from tests.conftest import Databases

COMMAND = str(Path(sys.executable).with_name("backorder-allocator"))
NOBODY = "127.0.0.1:9"


@dataclass
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Says = Callable[..., Said]


@dataclass
class Operator:
    """Runs commands against one database, each as a process."""

    environment: dict[str, str]

    def says(self, *args: str, **changed: str) -> Said:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ALLOCATOR_")}
        done = subprocess.run(
            [COMMAND, *args],
            env=clean | self.environment | changed,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)


def environment(database_url: str) -> dict[str, str]:
    return {
        "ALLOCATOR_DATABASE_URL": database_url,
        "ALLOCATOR_KAFKA_BOOTSTRAP_SERVERS": NOBODY,
        "ALLOCATOR_START_TIMEOUT_SECONDS": "0",
        "ALLOCATOR_HEAD_STARTS": '{"gold": "P2D"}',
    }


@pytest.fixture
def operator(database_url: str) -> Operator:
    return Operator(environment(database_url))


@pytest.fixture(scope="module")
def week_url(postgres: Databases, migrated: str) -> str:
    """A database after a week in which everything happened once, and one record was broken; to be copied."""
    url = postgres.create_database(template=migrated)

    async def live() -> None:
        connection = await asyncpg.connect(url, server_settings=SESSION)
        shop = await a_week(connection)
        value = json.dumps({"type": "OrderPlaced", "customer": {"email": "ada@example.org", "name": "Ada"}, "sku": "X"})
        broken = shop.partitions.broken("orders", "invalid")
        headers = (("x", b"ada@example.org"),)
        record = Record("orders", 0, broken.offset, START, b"k", value.encode(), headers, broken.read)
        await work(connection, [record], shop.context, shop.now)
        # Somebody tried it again already, in vain.
        (letter,) = await dead_letters.find(connection)
        asked = Asked("ada@ops-1", "shop-1 was mended")
        async for _ in drive(connection, shop.context.rules, [letter], dry_run=False, asked=asked):
            pass
        await statements.run(connection, "remember_identity", "7300000000000000001", 1, START)
        await connection.close()

    asyncio.run(live())
    return url


@pytest.fixture
def says(week_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Says:
    """Runs commands against that database, in this process: starting one takes longer than any answer."""
    for name in os.environ:
        if name.startswith("ALLOCATOR_"):
            monkeypatch.delenv(name)
    for name, value in environment(week_url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(telemetry, "set_up_logs", lambda _level: None)

    def run(*args: str, **changed: str) -> Said:
        code = 0
        with monkeypatch.context() as here:
            here.setattr(sys, "argv", ["backorder-allocator", *args])
            for name, value in changed.items():
                here.setenv(name, value)
            try:
                cli.main()
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return run


@pytest.fixture
def copied(says: Says, week_url: str, postgres: Databases, monkeypatch: pytest.MonkeyPatch) -> Says:
    """As `says`, against a copy that may be changed."""
    monkeypatch.setenv("ALLOCATOR_DATABASE_URL", postgres.create_database(template=week_url))
    return says


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_queue_shows_who_waits_in_which_place_why_and_what_covers_it(says: Says) -> None:
    (pool,) = says("queue", "X", "--json").json
    assert {name: pool[name] for name in ("sku", "location", "on_hand", "allocated", "available", "waiting")} == {
        "sku": "X",
        "location": "main",
        "on_hand": 3,
        "allocated": 3,
        "available": 0,
        "waiting": 4,
    }
    assert [(each["supply_id"], each["to_come"], each["overdue"]) for each in pool["supplies"]] == [("S-1", 4, False)]
    assert [
        (line["place"], line["order_id"], line["quantity_waiting"], line["covered_by"], line["supply_id"], line["why"])
        for line in pool["queue"]
    ] == [
        (1, "gold", 1, "supply", "S-1", "gold: served as if ordered 2 days earlier"),
        (2, "standard", 2, "supply", "S-1", "no head start: served by the time the order was placed"),
        (3, "whole", 1, "supply", "S-1", "no head start: served by the time the order was placed"),
    ]
    assert [line["first_promised_at"][:10] for line in pool["queue"]] == ["2026-11-22", "2026-11-22", "2027-01-01"]
    assert {line["promised_at"] for line in pool["queue"]} == {"2037-10-15T09:00:00Z"}
    text = says("queue", "X").out
    policy = "units may wait; at most 100 at a time; lead time 60 days; low from 1 on; instead: Y (revision 1)"
    assert f"policy: {policy}\n" in text
    assert "to come: 4 of 4 by acme (supply S-1), expected at 2037-10-15 09:00Z\n" in text


def test_a_queue_that_is_cut_short_has_the_same_dates(says: Says) -> None:
    whole, cut = says("queue", "X", "--json").json[0], says("queue", "X", "--limit", "2", "--json").json[0]
    assert cut["queue"] == whole["queue"][:2]


def test_a_supply_that_is_late_is_shown_and_carries_no_promise(says: Says) -> None:
    [supply] = says("queue", "Y", "--json").json[0]["supplies"]
    assert (supply["supply_id"], supply["to_come"], supply["overdue"], supply["counts_at"]) == ("S-2", 1, True, None)
    [supply] = says("queue", "Y", "--json", ALLOCATOR_OVERDUE_SUPPLY="3").json[0]["supplies"]
    assert supply["counts_at"] is not None


def test_explain_tells_every_decision_with_its_cause_and_who_is_ahead(says: Says) -> None:
    found = says("explain", "standard", "--json").json
    assert [(event["type"], event["caused_by"], event["cause"]["kind"]) for event in found["events"]] == [
        ("BackorderCreated", "placed standard", "batch"),
        ("AllocationReleased", "placed standard", "batch"),
        ("PromiseChanged", "planner:6", "planner"),
    ]
    assert found["events"][0]["why"] == {"ahead": 0, "promised_by": "supply S-1", "safety_stock": 0}
    assert {"topic": "orders", "partition": 0, "from": 0, "to": 8} in found["events"][0]["cause"]["what"]
    (line,) = found["lines"]
    assert (line["quantity_allocated"], line["quantity_waiting"], line["lines_ahead"], line["units_ahead"]) == (
        3,
        2,
        1,
        1,
    )
    assert [(each["order_id"], each["line_no"], each["quantity_waiting"]) for each in line["ahead"]] == [("gold", 1, 1)]
    assert [(each["promised_at"][:10], each["cause"]) for each in line["promises"]] == [
        ("2026-11-22", "ordered"),
        ("2037-10-15", "supply_moved"),
    ]
    assert [(each["shipment_id"], each["carrier"]) for each in found["shipments"]] == [("sh2", "DHL")]
    assert [each["shipment_id"] for each in found["deliveries"]] == ["sh2"]
    text = says("explain", "standard").out
    assert "line 1: 2 wait, behind 1 unit of 1 line: gold/1 (1)\n" in text
    assert "release 1: line 1: 3" in text
    assert "promised 2037-10-15 09:00Z by supply S-1 instead of 2026-11-22 09:00Z: supply_moved" in text
    assert says("explain", "gone", "--json").json["cancels"][0]["early"] is False


def test_explain_says_why_units_are_held(says: Says) -> None:
    lines = says("explain", "whole", "--json").json["lines"]
    assert [line["held_because"] for line in lines] == [
        None,
        "the order ships complete and 1 of its units wait, or until 2029-07-29 16:00Z",
    ]
    [line] = says("explain", "early bird", "--json").json["lines"]
    assert line["held_because"] == "for a pre-order, which is released at 2032-04-24 09:00Z"


def test_explain_names_the_limit_that_refused_units_and_what_was_shipped_all_the_same(says: Says) -> None:
    found = says("explain", "refused", "--json").json
    assert [event["words"] for event in found["events"]] == [
        "3 rejected: waiting_limit; at most 3 may wait and 1 did",
        "2 begin to wait (ordered, backorder); 2 of 5 wait; no date is known",
        "2 filled; 0 still wait",
        "shipment sh3 took 2 units that waited",
        "shipment sh3 took 2 units that were rejected",
    ]


def test_explain_shows_what_came_before_its_order_and_what_an_early_cancel_named_beyond_it(says: Says) -> None:
    found = says("explain", "foreseen", "--json").json
    assert [(each["early"], each["beyond"]) for each in found["cancels"]] == [(True, [{"line_no": 9, "quantity": 2}])]
    assert [(each["early"], each["waits"]) for each in found["shipments"]] == [(True, False)]
    text = says("explain", "not here yet").out
    assert "has not arrived yet" in text
    assert "came before its order, and waits for it" in text
    assert "shipment sh0 by DHL at 2026-11-03 02:00Z, and waits for its order: line 1: 1" in text


def test_explain_of_an_unknown_order_is_a_problem_not_a_crash(says: Says) -> None:
    said = says("explain", "nothing")
    assert (said.code, said.err) == (1, "backorder-allocator: order nothing is not known\n")


def test_suppliers_are_measured_by_what_they_announced_first(says: Says) -> None:
    acme, brandt = says("suppliers", "--json").json
    assert (acme["supplier"], acme["receipts"], acme["on_time"], acme["overdue_supplies"]) == ("acme", 0, None, 0)
    assert {name: brandt[name] for name in list(brandt)[:9]} == {
        "supplier": "brandt",
        "supplies": 1,
        "cancelled": 0,
        "units_announced": 2,
        "units_received": 1,
        "receipts": 1,
        "on_time": 0.0,
        "mean_days_late": 1.5,
        "p90_days_late": 1.5,
    }
    assert (brandt["overdue_supplies"], brandt["overdue_units"]) == (1, 1)


async def test_nine_of_ten_receipts_are_at_most_as_late_as_the_ninetieth_percentile(
    connection: asyncpg.Connection,
) -> None:
    """A supply that was moved is late by its first date; one that comes early makes up for nothing."""
    shop = StoredShop(connection)
    await shop.send(shop.supply("S", 100, day(10)))
    await shop.send(shop.supply("S", 100, day(40), revision=2))
    for number, days in enumerate((-5, 0, 1, 1, 1, 2, 2, 2, 3, 30)):
        shop.now = day(10 + days)
        await shop.send(shop.receipt(f"r{number}", 10, supply_id="S"))
    [acme] = await suppliers(connection, day(50))
    assert (acme["receipts"], acme["on_time"], acme["mean_days_late"], acme["p90_days_late"]) == (10, 0.2, 4.2, 3.0)
    assert (acme["overdue_supplies"], acme["longest_overdue_days"]) == (0, None)


def test_what_if_takes_its_options_in_the_order_given(says: Says, tmp_path: Path) -> None:
    path = tmp_path / "order.json"
    lines = [{"line_no": 1, "sku": "X", "quantity": 3, "unit_price": "1.00"}]
    path.write_text(
        json.dumps({"order_id": "new", "currency": "EUR", "customer": {"customer_id": "c"}, "lines": lines})
    )
    before = says("what-if", "--order", str(path), "--receive", "X=9", "--delay", "S-1=7d", "--json").json
    after = says("what-if", "--delay=S-1/X=7d", "--receive", "X=9@main", "--order", str(path), "--json").json
    assert before["ideas"] == ["order new is placed", "9 of X arrive at main", "supply S-1 comes 7 days later"]
    assert after["ideas"] == ["supply S-1/X comes 7 days later", "9 of X arrive at main", "order new is placed"]
    assert next(event["type"] for event in before["events"] if event["key"] == "new") == "BackorderCreated"
    assert [event["type"] for event in after["events"] if event["key"] == "new"] == ["AllocationReleased"]
    assert "gains\tgold\t1\tX\tmain\t1 → 2\t1 → 0" in says("what-if", "--receive", "X=1").out


def test_wrong_names_and_values_are_exit_2_with_what_is_meant(says: Says, tmp_path: Path) -> None:
    missing = tmp_path / "missing.json"
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    for args, problem in (
        (("queue", "Q"), "SKU Q is not known: no order, stock or supply has named it"),
        (("queue", "X", "--location", "moon"), "SKU X at moon is not known"),
        (("what-if",), "Give --receive, --delay or --order"),
        (("what-if", "--receive", "X"), "is not SKU=UNITS"),
        (("what-if", "--receive", "Q=1"), "SKU Q is not known"),
        (("what-if", "--delay", "S-1=soon"), "is not a time such as 30d"),
        (("what-if", "--delay", "S-9=7d"), "nothing is to come of supply S-9"),
        (("what-if", "--delay", "S-1=999999999w"), "is more than 36500 days"),
        (("queue", "X", "--limit", "9" * 20), "nothing that a database could hold"),
        (("explain", "\udcff"), "nothing that a database could hold"),
        (("what-if", "--order", str(missing)), "No such file"),
        (("what-if", "--order", str(broken)), "is not JSON"),
        (("dlq", "purge", "--older-than", "a while"), "is not a time such as 30d"),
        (("dlq", "purge", "--older-than=-1d"), "is not an age"),
        (("dlq", "purge"), "--older-than"),
        (("dlq", "list", "--since", "yesterday"), "or an age such as 2h"),
        (("dlq", "list", "--until", "2026-11-02T09:00:00"), "or an age such as 2h"),
        (("dlq", "redrive", "1", "--reason", "invalid"), "not both"),
        (("dlq", "redrive", "--all", "--topic", "orders"), "not both"),
        (("dlq", "redrive", "--why", " "), "one line of up to 500 characters"),
    ):
        said = says(*args)
        assert (said.code, said.out) == (2, ""), args
        assert problem in " ".join(re.sub(r"[│╭╰─╮╯]", " ", said.err).split()), args


def test_status_tells_positions_log_and_queues(says: Says) -> None:
    status = says("status", "--json").json
    assert (status["relay_behind"], status["units_waiting"], status["dead_letters"]) == (status["events"], 5, 1)
    assert ("stock-received", 6) in {(cursor["topic"], cursor["next_offset"]) for cursor in status["cursors"]}


def test_audit_tells_by_its_exit_code(copied: Says) -> None:
    said = copied("audit", "--json")
    assert (said.code, said.json["clean"]) == (0, True)
    asyncio.run(change(os.environ["ALLOCATOR_DATABASE_URL"], "UPDATE pools SET on_hand = on_hand + 1"))
    said = copied("audit")
    assert said.code == 1
    assert "VIOLATION stock is conserved: P at main: on hand 2, movements 1" in said.out


async def change(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


def test_a_dead_letter_is_shown_without_contact_data_unless_asked(says: Says) -> None:
    (letter,) = says("dlq", "list", "--json").json
    masked = says("dlq", "show", str(letter["id"]))
    assert "ada@example.org" not in masked.out
    assert masked.json["value"] == {"type": "OrderPlaced", "customer": {"email": "***", "name": "***"}, "sku": "X"}
    assert "ada@example.org" in says("dlq", "show", str(letter["id"]), "--unmasked").out
    assert says("dlq", "list", "--json", "--reason", "not_json").json == []
    assert says("dlq", "list", "--json", "--topic", "orders", "--since", "2026-11-01T00:00:00Z").json == [letter]
    assert says("dlq", "list", "--json", "--since", "1h").json == []
    assert says("dlq", "list").out.splitlines()[1].split("\t")[:2] == ["orders", "invalid"]
    assert says("dlq", "list", "--each").out.splitlines()[1].split("\t")[0] == str(letter["id"])


def test_a_redrive_says_what_became_of_each_and_fails_while_one_is_still_wrong(copied: Says) -> None:
    said = copied("dlq", "redrive", "--json")
    assert (said.code, [(row["outcome"], row["reason"]) for row in said.json]) == (1, [("dead_letter", "invalid")])
    said = copied("dlq", "redrive", "999", "--json")
    assert (said.code, said.json, "there is no dead letter 999" in said.err) == (1, [], True)


def test_dead_letters_are_purged_by_age_once_they_are_published(copied: Says) -> None:
    assert copied("dlq", "purge", "--older-than", "0d", "--json").json["purged"] == 0
    url = os.environ["ALLOCATOR_DATABASE_URL"]
    asyncio.run(change(url, "UPDATE dead_letters SET published = true, failed_at = now() - interval '29 days'"))
    assert copied("dlq", "purge", "--older-than", "30d").out == "purged: 0\n"
    assert copied("dlq", "purge", "--older-than", "28d").out == "purged: 1\n"
    assert copied("dlq", "list", "--all", "--json").json == []


# ── set-up ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_migrate_check_tells_by_its_exit_code(says: Says, postgres: Databases) -> None:
    assert says("migrate", "--check").code == 0
    empty = postgres.create_database()
    assert says("migrate", "--check", ALLOCATOR_DATABASE_URL=empty).code == 1
    assert "0001_foundation" in says("migrate", "--json", ALLOCATOR_DATABASE_URL=empty).json["applied"]


def test_a_database_that_cannot_be_reached_is_exit_3_in_one_line_without_the_password(operator: Operator) -> None:
    said = operator.says("status", ALLOCATOR_DATABASE_URL=f"postgresql://shop:s3cret@{NOBODY}/x")
    assert said.code == 3
    assert said.err.count("\n") == 1
    assert "not reachable" in said.err
    assert "s3cret" not in said.err


def test_a_wrong_password_is_not_taken_for_a_database_that_is_away(says: Says, postgres: Databases) -> None:
    """Waiting does not help there; whoever set it up has to."""
    user, _, rest = postgres.admin_url.partition("@")
    wrong = user.rsplit(":", 1)[0] + ":s3cret@" + rest
    said = says("status", ALLOCATOR_DATABASE_URL=wrong)
    assert (said.code, "s3cret" in said.err) == (2, False)
    assert "password" in said.err


def test_a_database_without_tables_is_exit_2_with_the_way_out(says: Says, postgres: Databases) -> None:
    said = says("status", ALLOCATOR_DATABASE_URL=postgres.create_database())
    assert said.code == 2
    assert "backorder-allocator migrate" in said.err


def test_kafka_that_cannot_be_reached_is_exit_3(operator: Operator) -> None:
    said = operator.says("run")
    assert said.code == 3
    assert "Kafka is not reachable" in said.err


def test_missing_topics_and_a_missing_schema_are_exit_2_with_the_way_out(
    operator: Operator, kafka: str, unique: str, postgres: Databases
) -> None:
    there = {
        "ALLOCATOR_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "ALLOCATOR_TOPIC_PREFIX": unique,
        "ALLOCATOR_START_TIMEOUT_SECONDS": "20",
    }
    said = operator.says("run", **there)
    assert said.code == 2
    assert "backorder-allocator topics --apply" in said.err
    assert operator.says("topics", "--json", **there).code == 1
    made = operator.says("topics", "--apply", "--json", **there)
    assert made.code == 0
    assert {f"{unique}orders", f"{unique}allocator.dlq", f"{unique}notifications"} <= {
        row["topic"] for row in made.json
    }
    assert all(row["partitions"] == 6 and not row["differences"] for row in made.json)
    said = operator.says("run", ALLOCATOR_DATABASE_URL=postgres.create_database(), **there)
    assert said.code == 2
    assert "backorder-allocator migrate" in said.err


def test_a_port_that_is_taken_is_exit_2_with_the_way_out(operator: Operator, kafka: str, unique: str) -> None:
    import socket

    there = {
        "ALLOCATOR_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "ALLOCATOR_TOPIC_PREFIX": unique,
        "ALLOCATOR_START_TIMEOUT_SECONDS": "20",
    }
    assert operator.says("topics", "--apply", **there).code == 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = operator.says(
            "run", "--accept-unsafe-durability", ALLOCATOR_HTTP_PORT=str(taken.getsockname()[1]), **there
        )
    assert said.code == 2
    assert "0 takes a free port" in said.err


def test_wrong_usage_is_exit_2(says: Says) -> None:
    assert says("queue").code == 2
    assert says("settings", ALLOCATOR_HTTP_PORT="many").code == 2


# ── the documented keys ──────────────────────────────────────────────────────────────────────────────────────────────

README = Path(__file__).parents[2] / "services" / "allocator" / "README.md"
DOCUMENTED = dict(re.findall(r"```json ([^\n]+)\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL))
NEED_KAFKA = {"lag", "topics", "replay"}


def keys(answer: Any) -> Any:
    """The shape of an answer: its keys, and those of the first element of each list. `value` holds any message."""
    match answer:
        case dict():
            return {name: None if name == "value" else keys(each) for name, each in answer.items()}
        case [first, *_]:
            return [keys(first)]
        case _:
            return None


@pytest.mark.parametrize("command", sorted(DOCUMENTED.keys() - NEED_KAFKA))
def test_the_keys_of_json_answers_are_those_of_the_readme(says: Says, command: str) -> None:
    assert keys(says(*shlex.split(command), "--json").json) == keys(json.loads(DOCUMENTED[command]))


def test_with_kafka_too_and_lag_is_what_is_left_of_each_log(
    says: Says, kafka: str, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLOCATOR_KAFKA_BOOTSTRAP_SERVERS", kafka)
    monkeypatch.setenv("ALLOCATOR_TOPIC_PREFIX", unique)
    monkeypatch.setenv("ALLOCATOR_START_TIMEOUT_SECONDS", "20")
    said = says("lag")
    assert (said.code, "backorder-allocator topics --apply" in said.err) == (2, True)
    topics = says("topics", "--apply", "--json").json
    assert keys(topics) == keys(json.loads(DOCUMENTED["topics"]))
    asyncio.run(produce(kafka, f"{unique}stock-received", 9))
    rows = says("lag", "--json").json
    assert keys(rows) == keys(json.loads(DOCUMENTED["lag"]))
    by_partition = {(row["topic"], row["partition"]): row for row in rows}
    assert len(rows) == 36
    assert by_partition["stock-received", 0] == {
        "topic": "stock-received",
        "partition": 0,
        "end_offset": 9,
        "cursor": 6,
        "committed": 4,
        "lag": 3,
    }
    assert {name: by_partition["catalog", 1][name] for name in ("cursor", "committed", "lag")} == {
        "cursor": None,
        "committed": None,
        "lag": 0,
    }


async def produce(kafka: str, topic: str, records: int) -> None:
    """So many records on partition 0, of which the group has committed four."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    for _ in range(records):
        await producer.send_and_wait(topic, b"{}", partition=0)
    await producer.stop()
    group = topic.removesuffix("stock-received") + "allocator"
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=group, enable_auto_commit=False)
    await consumer.start()
    consumer.assign([TopicPartition(topic, 0)])
    await consumer.commit({TopicPartition(topic, 0): 4})
    await consumer.stop()
