"""A notifier without its loops: messages come, the teller decides, senders send, each when the test says so."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from backorder_notifier.channel import Answer, Outgoing
from backorder_notifier.delivering import Limits, Patience, Provider
from backorder_notifier.intake import Report, take_batch
from backorder_notifier.kinds import Channel
from backorder_notifier.policy import Policy
from backorder_notifier.sending import Sent, send_due
from backorder_notifier.teller import TellReport, tell_due
from tests.notifier.messages import NOON, Log

PATIENCE = Patience(
    timedelta(minutes=1), retry_first=timedelta(minutes=5), retry_longest=timedelta(minutes=30),
    give_up_after=timedelta(days=5),
)  # fmt: skip


@dataclass
class Scripted:
    """A provider that takes everything, but for the answers it was told to give first."""

    answers: list[Answer] = field(default_factory=list)
    got: list[Outgoing] = field(default_factory=list)

    async def send(self, outgoing: Outgoing, now: datetime) -> Answer:
        answer = self.answers.pop(0) if self.answers else Answer("sent")
        if answer.verdict in {"sent", "ambiguous"}:
            self.got.append(outgoing)
        return answer

    async def close(self) -> None:
        pass


@dataclass
class Shop:
    """One database, one clock, a provider for each channel."""

    connection: asyncpg.Connection
    policy: Policy = field(default_factory=Policy)
    now: datetime = NOON
    log: Log = field(default_factory=Log)
    senders: dict[Channel, Scripted] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for channel in self.policy.channels:
            self.senders.setdefault(channel, Scripted())

    def change(self, **policy: Any) -> None:
        self.policy = replace(self.policy, **policy)
        self.__post_init__()

    async def comes(self, *messages: Any) -> Report:
        self.log.now = self.now
        return await take_batch(self.connection, self.log.records(*messages), self.now, self.policy)

    def waits(self, **time: float) -> None:
        self.now += timedelta(**time)

    async def decides(self, *, after: timedelta = timedelta(seconds=10)) -> TellReport:
        """Once the news has settled."""
        self.now += after
        return await tell_due(self.connection, self.policy, self.now)

    async def sends(self, *channels: Channel) -> Sent:
        providers: Mapping[Channel, Provider] = {
            channel: Provider(sender, Limits(1e9, 100), PATIENCE)
            for channel, sender in self.senders.items()
            if not channels or channel in channels
        }
        return await send_due(self.connection, providers, self.now)

    async def takes_in_hand(self, seconds: float = 60) -> None:
        """A sender claims all that is due, and is not done with it."""
        await self.connection.execute(
            "UPDATE deliveries SET lease = gen_random_uuid(), due_at = $1, attempts = attempts + 1,"
            " first_attempt_at = $2 WHERE state = 'due'",
            self.now + timedelta(seconds=seconds),
            self.now,
        )

    # What is seen afterwards

    def kinds(self, channel: Channel = "email") -> list[str]:
        """Of what customers got, in order."""
        return [outgoing.content.kind for outgoing in self.senders[channel].got]

    async def messages(self, order_id: str = "1001") -> Sequence[asyncpg.Record]:
        rows: Sequence[asyncpg.Record] = await self.connection.fetch(
            "SELECT * FROM messages WHERE order_id = $1 ORDER BY position", order_id
        )
        return rows

    async def deliveries(self, order_id: str = "1001") -> list[tuple[str, str, str | None]]:
        """(channel, state, reason), in the order of telling."""
        rows = await self.connection.fetch(
            "SELECT channel, state, reason FROM deliveries JOIN messages USING (message_id)"
            " WHERE messages.order_id = $1 ORDER BY position, channel",
            order_id,
        )
        return [tuple(row) for row in rows]

    async def verdicts(self, order_id: str = "1001") -> dict[str, tuple[str, str | None]]:
        """(state, reason) by event."""
        rows = await self.connection.fetch(
            "SELECT event_id, state, reason FROM updates WHERE order_id = $1 ORDER BY ordinal", order_id
        )
        return {row["event_id"].removeprefix(f"{order_id}/"): (row["state"], row["reason"]) for row in rows}

    async def tell_at(self, order_id: str = "1001") -> datetime | None:
        moment: datetime | None = await self.connection.fetchval(
            "SELECT tell_at FROM orders WHERE order_id = $1", order_id
        )
        return moment

    async def told(self, order_id: str = "1001") -> Any:
        return json.loads(await self.connection.fetchval("SELECT told FROM orders WHERE order_id = $1", order_id))

    async def outcomes(self) -> list[dict[str, Any]]:
        rows = await self.connection.fetch("SELECT record_value FROM outbox ORDER BY order_id, version")
        return [json.loads(row["record_value"]) for row in rows]
