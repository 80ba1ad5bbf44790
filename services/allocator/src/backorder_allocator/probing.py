"""What /livez and /readyz answer, and when reading has ended for good.

A process can look healthy and do nothing: FastStream restarts a crashed task for ever and forgets a cancelled one, and
the client library's own tasks may end behind its back. So all of it is looked at.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from backorder_allocator import store, telemetry
from backorder_allocator.errors import BrokenError
from backorder_allocator.intake import Intake
from backorder_allocator.parts import Part
from backorder_allocator.publishing import Publisher
from backorder_allocator.web import Probe

LIVE_SECONDS = 60.0
"""A process that asked for no records for this long, or has had messages and worked none, is not alive."""
BATCH_SECONDS = 600.0
"""A batch in hand may take this long: each of its statements has a limit of its own."""
LOOK_SECONDS = 1.0
ANSWER_SECONDS = 2.0
WORTH_SAYING = 3
"""So many failures in a row are more than bad luck."""


@dataclass(frozen=True, slots=True)
class Probes:
    """`subscriber` is FastStream's, and has a consumer once it is started."""

    pool: asyncpg.Pool
    intake: Intake
    subscriber: Any
    publisher: Publisher
    parts: Sequence[Part]

    async def live(self) -> Probe:
        """Alive: the loop that reads goes round, and tried a batch lately or has read everything there is.

        Not if a restart would not mend it: Kafka is away, a record can't be read, input stands still by intention.
        """
        health = self.intake.health
        if self.intake.stopping.is_set():
            return Probe(ok=True)
        now = monotonic()
        if self.subscriber.consumer is None and now - health.last_poll < LIVE_SECONDS:
            return Probe(ok=True)  # it is still beginning
        if ended := why_ended(self.subscriber):
            return Probe(ok=False, reasons=(ended,))
        limit = BATCH_SECONDS if self.intake.in_hand.locked() else LIVE_SECONDS
        if now - max(health.last_poll, health.last_attempt) > limit:
            return Probe(ok=False, reasons=(f"nothing was asked for, and no batch done, for {limit:.0f} s",))
        if now - health.last_attempt < LIVE_SECONDS or health.held_by or health.polls_fail_with:
            return Probe(ok=True)
        consumer = self.subscriber.consumer
        if kafka_is_away(consumer):
            return Probe(ok=True)
        waiting = await self._waiting(consumer)
        if waiting:
            why = f"no batch for {LIVE_SECONDS:.0f} s, and messages wait in {', '.join(waiting)}"
            return Probe(ok=False, reasons=(why,))
        return Probe(ok=True)

    async def _waiting(self, consumer: AIOKafkaConsumer) -> list[str]:
        waiting = []
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                for partition in sorted(consumer.assignment()):
                    name = f"{partition.topic}-{partition.partition}"
                    if name in self.intake.health.unreadable:
                        continue  # which `ready` says
                    if (consumer.highwater(partition) or 0) > await consumer.position(partition):
                        waiting.append(name)
        except (TimeoutError, KafkaError):
            return []
        return waiting

    async def ready(self) -> Probe:
        """Ready: the database answers, the group has given this process its part, and nothing stops the work."""
        health = self.intake.health
        reasons = []
        if health.stopped_by:
            reasons.append(f"input stands still: {health.stopped_by}")
        elif health.failures >= WORTH_SAYING:
            reasons.append(f"input is tried again, {health.failures} times by now: {health.failing_with}")
        if health.held_by:
            reasons.append(f"input stands still: {health.held_by}")
        if health.polls_fail_with:
            reasons.append(f"nothing can be read: {health.polls_fail_with}")
        reasons += health.unreadable.values()
        if not health.joined:
            reasons.append("not in the consumer group yet")
        elif kafka_is_away(self.subscriber.consumer):
            reasons.append("Kafka does not answer: the coordinator of the group is not known")
        if self.publisher.failures >= WORTH_SAYING:
            reasons.append(f"nothing is published: {self.publisher.failing_with}")
        reasons += [f"{part.name}: {part.failing()} fail again and again" for part in self.parts if part.failing()]
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self.pool.acquire(timeout=ANSWER_SECONDS) as connection:
                await store.read_epoch(connection)
        except Exception as error:
            reasons.append(f"the database does not answer: {type(error).__name__}: {telemetry.text_of(error)}")
        return Probe(ok=not reasons, reasons=tuple(reasons))


async def watch_reading(subscriber: Any) -> None:
    """Raises BrokenError when nothing will be read any more, whatever comes."""
    while (ended := why_ended(subscriber)) is None:  # noqa: ASYNC110 - there is nothing to wait for
        await asyncio.sleep(LOOK_SECONDS)
    raise BrokenError(ended)


def why_ended(subscriber: Any) -> str | None:
    """Why nothing is read any more for good; None while it is. The tasks are the libraries' own; a test knows them."""
    consumer: AIOKafkaConsumer | None = subscriber.consumer
    if consumer is None:
        return "the consumer is closed"
    tasks = {
        "the member of the consumer group": consumer._coordinator._coordination_task,  # noqa: SLF001
        "fetching": consumer._fetcher._fetch_task,  # noqa: SLF001
        "watching the brokers": consumer._client._sync_task,  # noqa: SLF001
    }
    for what, task in tasks.items():
        if task is None or task.done():
            error = None if task is None or task.cancelled() else task.exception()
            return f"{what} has ended" + (f": {type(error).__name__}: {telemetry.text_of(error)}" if error else "")
    # A crashed one is replaced by the library, a cancelled one is forgotten.
    if all(task.done() for task in subscriber.tasks):
        return "the task that polls was cancelled"
    return None


def kafka_is_away(consumer: AIOKafkaConsumer | None) -> bool:
    """Whether the library knows nobody to talk to about the group."""
    return consumer is None or consumer._coordinator.coordinator_id is None  # noqa: SLF001
