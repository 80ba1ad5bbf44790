"""Counted stacks as phases of the work: the budget of one order."""

from collections import Counter
from pathlib import Path

from tests.bench.peers.sampling import Stack, read

PHASES = {
    # The first frame from outside that begins with one of these says what the time went to.
    "publish": (
        "backorder_allocator.relay",
        "backorder_allocator.publishing",
        "backorder_allocator.log",
        "aiokafka.producer",
        "tests.bench.peers.limit:publish",
        "tests.bench.peers.limit:acknowledged",
    ),
    "plan": ("backorder_allocator.planner", "backorder_allocator.planning"),
    "decode": (
        "backorder_allocator.subscribers:read",
        "backorder_allocator.unpacking",
        "backorder_schemas.codec:decode",
    ),
    "load": (
        "backorder_allocator.loading",
        "backorder_allocator.queues",
        "backorder_allocator.touching",
        "backorder_allocator.store:lock_cursors",
        "backorder_allocator.store:next_batch_id",
    ),
    "decide": ("backorder_allocator.allocation", "tests.bench.peers.placing:decided"),
    "ids and bytes of events": ("backorder_allocator.events",),
    "write": (
        "backorder_allocator.writing",
        "backorder_allocator.store",
        "tests.bench.peers.placing",
        "tests.bench.peers.limit:write",
        "asyncpg",
    ),
    "batch, the rest": ("backorder_allocator.batches", "backorder_allocator.intake"),
    "consume, commit offsets": (
        "aiokafka.consumer",
        "faststream",
        "backorder_allocator.polling",
        "backorder_allocator.subscribers",
        "tests.bench.peers.limit:consume",
    ),
    "Kafka connections": ("aiokafka",),
    "other parts": ("backorder_allocator", "uvicorn"),
}
BROAD = (
    "faststream",
    "backorder_allocator.polling",
    "backorder_allocator.subscribers",
    "backorder_allocator.batches",
    "backorder_allocator.intake",
    "backorder_allocator.parts",
)
"""Frames around the others: they say something only where nothing within does."""
LOOP_FRAME = "asyncio.events:Handle._run"
LOOP = "event loop and sockets"


def shares(path: Path) -> dict[str, float]:
    """By phase, the largest first; they add up to 1."""
    found: Counter[str] = Counter()
    for stack, times in read(path).items():
        found[phase_of(stack)] += times
    total = sum(found.values()) or 1
    return {phase: times / total for phase, times in found.most_common()}


def phase_of(stack: Stack) -> str:
    if LOOP_FRAME not in stack:
        return LOOP
    of_task = stack[len(stack) - stack[::-1].index(LOOP_FRAME) :]
    narrow = [frame for frame in of_task if not frame.startswith(BROAD) or frame.startswith(PHASES["decode"])]
    for frame in (*narrow, *of_task):
        for phase, beginnings in PHASES.items():
            if frame.startswith(beginnings):
                return phase
    return LOOP
