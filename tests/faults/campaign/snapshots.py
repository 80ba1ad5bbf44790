"""Audits of both databases in one snapshot each, also in the middle of faults: what always holds, holds then."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import asyncpg

from backorder_allocator import audits as allocator_audits
from backorder_notifier import audits as notifier_audits
from backorder_notifier.policy import Policy
from tests.faults.campaign.away import DATABASE_AWAY
from tests.faults.campaign.supervisor import Service

EVERY_SECONDS = 15.0


class Check(Protocol):
    """What both services say of a rule."""

    rule: str
    checked: int
    violations: int
    examples: list[str]


@dataclass
class Snapshots:
    """`checked`: how often each rule was looked at, over all snapshots."""

    databases: Mapping[Service, str]
    taken: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    """The database was away or frozen."""
    checked: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    async def keep_looking(self) -> None:
        """Never returns."""
        pause = EVERY_SECONDS
        while True:
            await asyncio.sleep(pause)
            began = time.monotonic()
            for service in self.databases:
                await self.look(service)
            # A database that has grown takes longer to look at: that must not become the load.
            pause = max(EVERY_SECONDS, 4 * (time.monotonic() - began))

    async def look(self, service: Service) -> bool:
        """Whether it could be looked at."""
        try:
            checks = await asyncio.wait_for(asyncio.to_thread(lambda: asyncio.run(self._audit(service))), 60)
        except DATABASE_AWAY:
            self.missed += 1
            return False
        self.taken[service] += 1
        for check in checks:
            self.checked[f"{service}: {check.rule}"] += check.checked
            if check.violations:
                self.violations.append(
                    f"{service}: {check.rule}: {check.violations} violations in a snapshot: {'; '.join(check.examples)}"
                )
        return True

    async def _audit(self, service: Service) -> Sequence[Check]:
        connection = await asyncpg.connect(self.databases[service], timeout=5, command_timeout=50)
        try:
            if service == "allocator":
                return await allocator_audits.audit(connection)
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                return await notifier_audits.audit(connection, Policy())
        finally:
            connection.terminate()
