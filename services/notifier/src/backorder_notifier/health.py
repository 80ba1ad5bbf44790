"""What /livez and /readyz say, computed when asked."""

import asyncio
import time
from collections.abc import Sequence

import asyncpg

from backorder_notifier import store
from backorder_notifier.errors import describe
from backorder_notifier.pulse import Pulse
from backorder_notifier.reading import Reader
from backorder_notifier.statements import borrowed
from backorder_notifier.telemetry import logger

log = logger("health")


class Health:
    """Of one process."""

    def __init__(self, pool: asyncpg.Pool, reader: Reader, pulses: Sequence[Pulse]) -> None:
        self._pool = pool
        self._reader = reader
        self._pulses = pulses
        self.started = False
        self.stopping = False
        self._database = (float("-inf"), False)

    async def alive(self) -> dict[str, bool]:
        """Before the start there is nothing to be stuck in: whoever waits for a database should not be restarted."""
        if not self.started or self.stopping:
            return {"running": True}
        return {"reading": await self._reader.is_alive()} | {pulse.part: pulse.is_alive for pulse in self._pulses}

    async def ready(self) -> dict[str, bool]:
        checks = {
            "started": self.started,
            "not_stopping": not self.stopping,
            "database": await self._database_answers(),
        }
        if self.started:
            checks["reading"] = self._reader.is_ready()
            checks |= {pulse.part: pulse.is_well for pulse in self._pulses}
        return checks

    async def _database_answers(self) -> bool:
        """Asked at most once a second, however often the probe comes."""
        asked_at, answer = self._database
        if time.monotonic() - asked_at > 1:
            try:
                async with asyncio.timeout(2), borrowed(self._pool) as connection:
                    await store.list_cursors(connection)  # a small table, whatever waits
                answer = True
            except Exception as error:
                log.debug("database_does_not_answer", **describe(error))
                answer = False
            self._database = (time.monotonic(), answer)
        return answer
