"""A notifier as its users have it: processes on a real Kafka, PostgreSQL and mail server, seen from outside."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import urlopen
from uuid import uuid4

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from backorder_notifier.intake import READS
from backorder_schemas import CustomerNotified, Decoded, NotificationFailed, decode, encode

COMMAND = Path(sys.executable).with_name("backorder-notifier")
T = TypeVar("T")
UNSAFE = "--accept-unsafe-durability"  # the tests' PostgreSQL need not survive anything
SETTLES = '{"default": {"quiet": "PT0.2S", "at_most": "PT1S"}}'


async def eventually(condition: Callable[[], Awaitable[T]], seconds: float = 20) -> T:
    """The first true answer."""
    async with asyncio.timeout(seconds):
        while True:
            if answer := await condition():
                return answer
            await asyncio.sleep(0.03)


def get(url: str) -> tuple[int, str]:
    """Status and body."""
    try:
        with urlopen(url, timeout=10) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except OSError as error:
        return getattr(error, "code", 0), error.read().decode() if hasattr(error, "read") else ""


@dataclass(frozen=True)
class Delivery:
    """One message over one channel."""

    order_id: str
    position: int
    kind: str
    channel: str
    state: str
    reason: str | None
    attempts: int
    in_doubt: int
    settled_at: datetime | None
    about: tuple[str, ...]


class Process:
    """One running notifier."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.log_file = log

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    async def logged(self, text: str, seconds: float = 20) -> None:
        async def there() -> bool:
            if self.process.returncode is not None and text not in self.log:
                raise AssertionError(f"ended with {self.process.returncode}:\n{self.log}")
            return text in self.log

        await eventually(there, seconds)

    @property
    def port(self) -> int:
        found = re.search(r'"port": (\d+)', self.log)
        assert found
        return int(found[1])

    async def stop(self, number: int = signal.SIGTERM, seconds: float = 30) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(seconds):
            return await self.process.wait()


@dataclass
class World:
    """One test's own prefix, database and mail server settings."""

    kafka: str
    database: str
    folder: Path
    smtp_url: str
    prefix: str = field(default_factory=lambda: f"n{uuid4().hex[:8]}.")
    processes: list[Process] = field(default_factory=list)
    _producer: AIOKafkaProducer | None = None

    def environment(self, **settings: str) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("NOTIFIER_", "BACKORDER_"))
        }
        return inherited | {
            "NOTIFIER_DATABASE_URL": self.database,
            "NOTIFIER_KAFKA_BOOTSTRAP_SERVERS": self.kafka,
            "NOTIFIER_TOPIC_PREFIX": self.prefix,
            "NOTIFIER_SMTP_URL": self.smtp_url,
            "NOTIFIER_MAIL_FROM": "Shop <shop@example.org>",
            "NOTIFIER_HTTP_PORT": "0",
            "NOTIFIER_RETRY_FIRST": "PT0.1S",
            "NOTIFIER_SMTP_TIMEOUT": "PT5S",
            "NOTIFIER_LEASE": "PT10S",
            # Long enough for what comes together to be told together, too short to be waited for.
            "NOTIFIER_DEBOUNCE": SETTLES,
            "NOTIFIER_DAILY_CAP": "1000",  # one customer stands for many
            **settings,
        }

    async def create_topics(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka.split(","))
        await admin.start()
        try:
            await admin.create_topics(
                [
                    NewTopic(self.prefix + name, 3, 1, topic_configs={"message.timestamp.type": "LogAppendTime"})
                    for name in (*READS, "notifications", "notifier.dlq")
                ]
            )
        finally:
            await admin.close()

    async def start(self, *flags: str, ready: bool = True, unsafe: bool = True, **settings: str) -> Process:
        """`run` with these flags, and with the one that the tests' database needs unless not `unsafe`."""
        log = self.folder / f"{self.prefix}{len(self.processes)}.log"
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                COMMAND,
                "run",
                *([UNSAFE] if unsafe else []),
                *flags,
                env=self.environment(**settings),
                stderr=errors,
                stdout=errors,
            )
        self.processes.append(Process(process, log))
        if ready:
            await self.processes[-1].logged('"event": "assigned"', 40)
        return self.processes[-1]

    async def command(self, *arguments: str, **settings: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        process = await asyncio.create_subprocess_exec(
            COMMAND, *arguments, env=self.environment(**settings), stdout=-1, stderr=-1
        )
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    async def json(self, *arguments: str, expect: int = 0) -> Any:
        code, out, err = await self.command(*arguments, "--json")
        assert code == expect, err
        return json.loads(out)

    async def close(self) -> None:
        for process in self.processes:
            if process.process.returncode is None:
                process.process.kill()
                await process.process.wait()
        if self._producer is not None:
            await self._producer.stop()

    # Kafka

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            self._producer = AIOKafkaProducer(bootstrap_servers=self.kafka.split(","))
            await self._producer.start()
        return self._producer

    async def send(self, *messages: Any) -> None:
        """They happen now: what happened long ago would be told late, or not at all."""
        for message in messages:
            encoded = encode(message.model_copy(update={"occurred_at": datetime.now(UTC)}), source="/test")
            await self.send_raw(encoded.topic, encoded.key, encoded.value, encoded.headers)

    async def send_raw(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        partition: int | None = None,
    ) -> None:
        producer = await self._connected()
        if key is None and value is None:  # Kafka takes such a record, `send` refuses it
            batch = producer.create_batch()
            batch.append(key=None, value=None, timestamp=None, headers=list(headers))
            batch.close()
            await (await producer.send_batch(batch, self.prefix + topic, partition=partition or 0))
            return
        await producer.send_and_wait(self.prefix + topic, value, key=key, headers=list(headers), partition=partition)

    async def read(self, topic: str) -> list[ConsumerRecord]:
        """Everything on a topic now."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.kafka.split(","), enable_auto_commit=False)
        await consumer.start()
        try:
            partitions = [TopicPartition(self.prefix + topic, number) for number in range(3)]
            consumer.assign(partitions)
            begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
            for each in partitions:  # not seek_to_beginning: what the consumer does by itself may come after it
                consumer.seek(each, begins[each])
            records: list[ConsumerRecord] = []
            while any([await consumer.position(each) < ends[each] for each in partitions]):
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    records += batch
            return records
        finally:
            await consumer.stop()

    async def outcomes(self, order_id: str | None = None) -> list[CustomerNotified | NotificationFailed]:
        """What is on `notifications`, distinct ids, in the order of the log."""
        found: dict[str, CustomerNotified | NotificationFailed] = {}
        for record in await self.read("notifications"):
            decoded = decode("notifications", record.key, record.value, record.headers)
            assert isinstance(decoded, Decoded)
            assert isinstance(decoded.message, CustomerNotified | NotificationFailed)
            if order_id in {None, decoded.message.order_id}:
                found.setdefault(decoded.message.id, decoded.message)
        return list(found.values())

    # Database

    async def deliveries(self, order_id: str | None = None) -> list[Delivery]:
        """In the order of telling."""
        connection = await asyncpg.connect(self.database)
        try:
            rows = await connection.fetch(
                "SELECT messages.order_id, position, kind, channel, state, reason, attempts, in_doubt, settled_at,"
                " about FROM deliveries JOIN messages USING (message_id)"
                " WHERE $1::text IS NULL OR messages.order_id = $1 ORDER BY messages.order_id, position, channel",
                order_id,
            )
        finally:
            await connection.close()
        return [Delivery(**dict(row) | {"about": tuple(row["about"])}) for row in rows]

    async def has_read(self, records: int, seconds: float = 20) -> None:
        """Waits until so many records are read, of all topics."""
        connection = await asyncpg.connect(self.database)

        async def done() -> bool:
            return bool(await connection.fetchval("SELECT sum(next_offset) >= $1 FROM cursors", records))

        try:
            await eventually(done, seconds)
        finally:
            await connection.close()

    async def settled(self, count: int, seconds: float = 20) -> list[Delivery]:
        """All deliveries, once there are so many and each has an end."""

        async def done() -> list[Delivery] | None:
            rows = await self.deliveries()
            return rows if len(rows) >= count and all(row.settled_at for row in rows) else None

        rows = await eventually(done, seconds)
        assert rows is not None
        return rows

    async def decided(self, events: int, seconds: float = 20) -> dict[str, tuple[str, str | None]]:
        """(state, reason) by event, once there are so many, each is decided, and every message has its end."""
        connection = await asyncpg.connect(self.database)

        async def done() -> dict[str, tuple[str, str | None]] | None:
            rows = await connection.fetch("SELECT event_id, state, reason FROM updates")
            open_ones = await connection.fetchval("SELECT count(*) FROM deliveries WHERE state = 'due'")
            if open_ones or len(rows) < events or any(row["state"] == "pending" for row in rows):
                return None
            return {row["event_id"]: (row["state"], row["reason"]) for row in rows}

        try:
            verdicts = await eventually(done, seconds)
        finally:
            await connection.close()
        assert verdicts is not None
        return verdicts
