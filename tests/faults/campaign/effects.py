"""What a fault did, told from counters: of services, logs, proxies, databases and consumer groups."""

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient
from asyncpg.exceptions import UndefinedColumnError

from tests.faults.campaign.away import DATABASE_AWAY, KAFKA_AWAY
from tests.faults.campaign.supervisor import Service, Supervisor
from tests.faults.campaign.wire import Wire

LOOK_SECONDS = 1.0
PROGRESS = {
    "allocator": "SELECT (SELECT coalesce(sum(next_offset), 0) FROM cursors), (SELECT epoch FROM relay), "
    "(SELECT seq FROM relay)",
    "notifier": "SELECT (SELECT coalesce(sum(next_offset), 0) FROM cursors), "
    "(SELECT coalesce(sum(epoch), 0) FROM leases), (SELECT count(*) FROM deliveries WHERE state = 'sent')",
}
REFUSED = "SELECT coalesce(sum(refused), 0) FROM cursors"


@dataclass
class Watch:
    """Looks once a second at everything that counts; `now` is the last state of all counters, which never go back."""

    supervisor: Supervisor
    wire: Wire
    kafka: str
    databases: Mapping[Service, str]
    """Service → URL, past the proxies."""
    extra: Counter[str] = field(default_factory=Counter)
    gaps: list[tuple[float, str, float]] = field(default_factory=list)
    """(when it ended, what, seconds): standstills of three seconds or more while there was work."""
    _last: dict[str, tuple[int, float]] = field(default_factory=dict)
    _members: dict[str, frozenset[str]] = field(default_factory=dict)
    _proxies: dict[str, int] = field(default_factory=dict)
    _connections: dict[str, asyncpg.Connection] = field(default_factory=dict)

    def now(self) -> Counter[str]:
        counters: Counter[str] = Counter({name: int(value) for name, value in self.supervisor.counters()})
        counters.update(self._proxies)
        counters.update(self.extra)
        return counters

    async def look_on(self) -> None:
        """Never returns."""
        looks: list[Callable[[], Awaitable[None]]] = [self._look_at_proxies]
        looks += [partial(self._look_at_database, service) for service in self.databases]
        await asyncio.gather(self._groups(), *map(self._each_second, looks))

    async def look_once(self) -> None:
        await self._look_at_proxies()
        for service in self.databases:
            await self._look_at_database(service)

    async def _each_second(self, look: Callable[[], Awaitable[None]]) -> None:
        while True:
            began = time.monotonic()
            await look()
            await asyncio.sleep(max(0.05, LOOK_SECONDS - (time.monotonic() - began)))

    async def _look_at_proxies(self) -> None:
        self._proxies = await self.wire.counts()

    async def _look_at_database(self, service: Service) -> None:
        try:
            async with asyncio.timeout(3):
                if service not in self._connections:
                    self._connections[service] = await asyncpg.connect(self.databases[service], timeout=3)
                cursor, epoch, done = await self._connections[service].fetchrow(PROGRESS[service])
                with contextlib.suppress(UndefinedColumnError):
                    self.extra[f"database/{service} refused"] = int(await self._connections[service].fetchval(REFUSED))
        except DATABASE_AWAY:
            connection = self._connections.pop(service, None)
            if connection is not None:
                connection.terminate()
            self._progress(f"{service} input", None)
            return
        self.extra[f"database/{service} lease changed hands"] = int(epoch)
        self._progress(f"{service} input", int(cursor))
        self._progress(f"{service} output", int(done))

    def _progress(self, what: str, value: int | None) -> None:
        """Counts the seconds without progress from the third on: shorter ones are ordinary."""
        now = time.time()
        last = self._last.get(what)
        if last is None or (value is not None and value > last[0]):
            if last is not None and now - last[1] >= 3:
                self.gaps.append((now, what, round(now - last[1], 1)))
            self._last[what] = (value or 0, now)
        elif now - last[1] >= 3:
            self.extra[f"standstill/{what}"] += 1

    async def _groups(self) -> None:
        """Who has partitions: members that go or come are counted."""
        while True:
            admin = AIOKafkaAdminClient(bootstrap_servers=[self.kafka], request_timeout_ms=4000, retry_backoff_ms=400)
            try:
                async with asyncio.timeout(10):
                    await admin.start()
                while True:
                    await self._look_at_groups(admin)
                    await asyncio.sleep(2 * LOOK_SECONDS)
            except KAFKA_AWAY:
                await asyncio.sleep(LOOK_SECONDS)
            finally:
                with contextlib.suppress(*KAFKA_AWAY):
                    await asyncio.wait_for(admin.close(), 5)

    async def _look_at_groups(self, admin: AIOKafkaAdminClient) -> None:
        for group in self.databases:
            async with asyncio.timeout(6):
                for answer in await admin.describe_consumer_groups([group]):
                    for _, _, state, _, _, members, *_ in answer.groups:
                        names = frozenset(member[0] for member in members)
                        before = self._members.get(group, names)
                        self.extra[f"group/{group} lost a member"] += len(before - names)
                        self.extra[f"group/{group} got a member"] += len(names - before)
                        self.extra[f"group/{group} rebalances"] += state == "PreparingRebalance"
                        self._members[group] = names

    def close(self) -> None:
        for connection in self._connections.values():
            connection.terminate()


def moved(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    return {name: int(value - before.get(name, 0)) for name, value in after.items() if value > before.get(name, 0)}


def that_match(counters: Mapping[str, int], patterns: Iterable[str]) -> dict[str, int]:
    compiled = [re.compile(pattern) for pattern in patterns]
    return {name: value for name, value in counters.items() if any(each.search(name) for each in compiled)}
