"""The commands as an operator runs them: processes with exit codes, JSON with stable keys, clear errors."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from backorder_allocator.batches import Record
from backorder_allocator.connections import SESSION
from backorder_allocator.decision import Rules
from backorder_allocator.loading import Context
from backorder_allocator.ranking import HeadStartRules
from backorder_schemas import Customer
from tests.allocator.records import Partitions
from tests.allocator.strategies import SEGMENT_HEAD_STARTS, START
from tests.allocator.test_batches import cancel, order, receipt, work
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


@dataclass
class Operator:
    """Runs commands against one database."""

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


@pytest.fixture
def operator(database_url: str) -> Operator:
    return Operator(
        {
            "ALLOCATOR_DATABASE_URL": database_url,
            "ALLOCATOR_KAFKA_BOOTSTRAP_SERVERS": NOBODY,
            "ALLOCATOR_START_TIMEOUT_SECONDS": "0",
        }
    )


@pytest.fixture
async def history(database_url: str) -> None:
    """Stock 3; a standard order of 5, a gold one of 2 placed at once, one cancelled, one filled, one broken."""
    connection = await asyncpg.connect(database_url, server_settings=SESSION)
    partitions = Partitions()
    arrivals = [
        receipt("r1", 3),
        order("standard", 5),
        order("gold", 2, customer=Customer(customer_id="g", segment="gold")),
        order("gone", 1),
        cancel("gone"),
        cancel("not here yet", "early"),
        order("filled", 1, sku="Y"),
        receipt("r2", 1, sku="Y"),
    ]
    records = partitions.records(arrivals)
    value = json.dumps({"type": "OrderPlaced", "customer": {"email": "ada@example.org", "name": "Ada"}, "sku": "X"})
    broken = partitions.broken("orders", "invalid")
    records.append(
        Record("orders", 0, broken.offset, START, b"k", value.encode(), (("x", b"ada@example.org"),), broken.read)
    )
    await work(connection, records, Context(Rules(HeadStartRules(SEGMENT_HEAD_STARTS))))
    await connection.close()


@pytest.mark.usefixtures("history")
def test_queue_shows_who_waits_in_which_place_and_why(operator: Operator) -> None:
    (pool,) = operator.says("queue", "X", "--json").json
    assert {name: pool[name] for name in ("sku", "location", "on_hand", "allocated", "available", "waiting")} == {
        "sku": "X",
        "location": "main",
        "on_hand": 3,
        "allocated": 3,
        "available": 0,
        "waiting": 4,
    }
    assert [(line["place"], line["order_id"], line["quantity_waiting"], line["why"]) for line in pool["queue"]] == [
        (1, "gold", 2, "gold: served as if ordered 2 days earlier"),
        (2, "standard", 2, "no head start: served by the time the order was placed"),
    ]


@pytest.mark.usefixtures("history")
def test_explain_tells_every_decision_with_its_cause_and_who_is_ahead(operator: Operator) -> None:
    found = operator.says("explain", "standard", "--json").json
    assert [(event["type"], event["caused_by"]) for event in found["events"]] == [
        ("BackorderCreated", "placed standard"),
        ("AllocationReleased", "placed standard"),
    ]
    (line,) = found["lines"]
    assert (line["quantity_allocated"], line["quantity_waiting"], line["lines_ahead"], line["units_ahead"]) == (
        3,
        2,
        1,
        2,
    )
    text = operator.says("explain", "standard").out
    assert "release 1: line 1: 3" in text
    assert operator.says("explain", "gone", "--json").json["cancels"][0]["early"] is False


@pytest.mark.usefixtures("history")
def test_explain_of_an_order_that_only_a_cancel_has_named_says_so(operator: Operator) -> None:
    assert "has not arrived yet" in operator.says("explain", "not here yet").out


def test_explain_of_an_unknown_order_is_a_problem_not_a_crash(operator: Operator) -> None:
    said = operator.says("explain", "nothing")
    assert (said.code, said.err) == (1, "backorder-allocator: order nothing is not known\n")


@pytest.mark.usefixtures("history")
def test_status_tells_positions_log_and_queues(operator: Operator) -> None:
    status = operator.says("status", "--json").json
    assert (status["events"], status["relay_behind"], status["units_waiting"], status["dead_letters"]) == (8, 8, 4, 1)
    assert {(cursor["topic"], cursor["next_offset"]) for cursor in status["cursors"]} == {
        ("orders", 7),
        ("stock-received", 2),
    }


@pytest.mark.usefixtures("history")
async def test_audit_is_clean_and_finds_what_somebody_changed_by_hand(
    operator: Operator, database_url: str, postgres: Databases
) -> None:
    said = operator.says("audit", "--json")
    assert (said.code, said.json["clean"]) == (0, True)
    assert all(check["checked"] for check in said.json["checks"])
    for change, rule in (
        ("UPDATE pools SET on_hand = on_hand + 1", "stock is conserved"),
        ("UPDATE pools SET on_hand = on_hand + 1", "no unit rests while a line waits"),
        ("UPDATE pools SET waiting = waiting + 1", "counters equal their sums"),
        ("UPDATE orders SET release_no = 0 WHERE order_id = 'standard'", "line quantities add up"),
        (
            "UPDATE lines SET releases = '[]', quantity_released = 0 WHERE order_id = 'standard'",
            "held units have a reason",
        ),
        (
            "UPDATE lines SET releases = '[[1, 2]]', quantity_released = 2 WHERE order_id = 'standard'",
            "releases add up to what was told",
        ),
        ("DELETE FROM events WHERE key = 'gold'", "versions have no gap"),
        ("DELETE FROM events WHERE key = 'gold'", "the log has no gap"),
        ("UPDATE cursors SET next_offset = next_offset + 1", "every input is worked once"),
        (
            "UPDATE lines SET quantity_waiting = 1, quantity_cancelled = 1 WHERE order_id = 'gold'",
            "events add up to what waits",
        ),
    ):
        copy = postgres.create_database(template=database_url)
        connection = await asyncpg.connect(copy)
        await connection.execute(change)
        await connection.close()
        said = operator.says("audit", "--json", ALLOCATOR_DATABASE_URL=copy)
        assert said.code == 1
        assert rule in {check["rule"] for check in said.json["checks"] if check["violations"]}, change


@pytest.mark.usefixtures("history")
def test_a_dead_letter_is_shown_without_contact_data_unless_asked(operator: Operator) -> None:
    (letter,) = operator.says("dlq", "list", "--json").json
    masked = operator.says("dlq", "show", str(letter["id"]))
    assert "ada@example.org" not in masked.out
    assert masked.json["value"] == {"type": "OrderPlaced", "customer": {"email": "***", "name": "***"}, "sku": "X"}
    assert "ada@example.org" in operator.says("dlq", "show", str(letter["id"]), "--unmasked").out
    assert operator.says("dlq", "list", "--json", "--reason", "not_json").json == []


@pytest.mark.usefixtures("history")
def test_a_redrive_says_what_became_of_each_and_fails_while_one_is_still_wrong(operator: Operator) -> None:
    said = operator.says("dlq", "redrive", "--json")
    assert (said.code, [(row["outcome"], row["reason"]) for row in said.json]) == (1, [("dead_letter", "invalid")])
    assert operator.says("dlq", "redrive", "999", "--json").code == 1


def test_migrate_check_tells_by_its_exit_code(operator: Operator, postgres: Databases) -> None:
    assert operator.says("migrate", "--check").code == 0
    empty = postgres.create_database()
    assert operator.says("migrate", "--check", ALLOCATOR_DATABASE_URL=empty).code == 1
    assert "0001_foundation" in operator.says("migrate", "--json", ALLOCATOR_DATABASE_URL=empty).json["applied"]


def test_a_database_that_cannot_be_reached_is_exit_3_in_one_line_without_the_password(operator: Operator) -> None:
    said = operator.says("status", ALLOCATOR_DATABASE_URL=f"postgresql://shop:s3cret@{NOBODY}/x")
    assert said.code == 3
    assert said.err.count("\n") == 1
    assert "not reachable" in said.err
    assert "s3cret" not in said.err


def test_a_wrong_password_is_not_taken_for_a_database_that_is_away(operator: Operator, postgres: Databases) -> None:
    """Waiting does not help there; whoever set it up has to."""
    user, _, rest = postgres.admin_url.partition("@")
    wrong = user.rsplit(":", 1)[0] + ":s3cret@" + rest
    said = operator.says("status", ALLOCATOR_DATABASE_URL=wrong)
    assert (said.code, "s3cret" in said.err) == (2, False)
    assert "password" in said.err


def test_a_database_without_tables_is_exit_2_with_the_way_out(operator: Operator, postgres: Databases) -> None:
    said = operator.says("status", ALLOCATOR_DATABASE_URL=postgres.create_database())
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
        said = operator.says("run", ALLOCATOR_HTTP_PORT=str(taken.getsockname()[1]), **there)
    assert said.code == 2
    assert "0 takes a free port" in said.err


def test_wrong_usage_is_exit_2(operator: Operator) -> None:
    assert operator.says("queue").code == 2
    assert operator.says("settings", ALLOCATOR_HTTP_PORT="many").code == 2


README = Path(__file__).parents[2] / "services" / "allocator" / "README.md"
DOCUMENTED = re.findall(r"```json ([^\n]+)\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def keys(answer: Any) -> Any:
    """The shape of an answer: its keys, and those of the first element of each list. `value` holds any message."""
    match answer:
        case dict():
            return {name: None if name == "value" else keys(each) for name, each in answer.items()}
        case [first, *_]:
            return [keys(first)]
        case _:
            return None


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize(("command", "example"), DOCUMENTED, ids=[command for command, _ in DOCUMENTED])
def test_the_keys_of_json_answers_are_those_of_the_readme(operator: Operator, command: str, example: str) -> None:
    assert keys(operator.says(*command.split(), "--json").json) == keys(json.loads(example))
