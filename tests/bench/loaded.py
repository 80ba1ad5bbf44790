"""A database with many waiting lines and a long log, as if the service had worked them: `audit` finds nothing wrong.

Made by PostgreSQL itself from series, so that a million lines take seconds. Every line is one unit of an order of its
own; lines go round the pools in the order of their time, so that the first in line of each pool lie beside each other,
as orders that came one after the other do. Event bytes are those of the service's own messages. The journal says that
all this came from topics which were deleted and made again since: so the cursors stand at the beginning of new ones.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from tests.bench.loaded_bytes import EPOCH, LOCATION, created, literal, shown

A_BATCH = 1000
COMES_FROM = timedelta(days=10)
"""From now to the first supply."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a database begins with."""

    lines: int = 0
    """That wait; a multiple of `pools`."""
    pools: int = 1
    supplies: int = 5
    """To come for each pool, a day apart."""
    units_to_come: int = 100_000
    """By each supply."""
    past_events: int = 0
    """Of availability; a multiple of `pools`. Those that made the lines wait come on top."""
    placed_within: timedelta = timedelta(days=100)
    """The orders were placed one after the other during this time, until now."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What is there, counted in the tables."""

    lines_waiting: int
    pools_waiting: int
    events: int
    bytes_on_disk: int


def sku(pool: int) -> str:
    """The name of a pool, from 0 on."""
    return f"SKU-{pool + 1}"


def order_id(line: int) -> str:
    """The order of a loaded line, from 0 (the first in line) on."""
    return f"w-{line:08}"


async def fill(connection: asyncpg.Connection, load: Load, now: datetime) -> None:
    """Fill a migrated, empty database; `now`, to the second, is when the last order was placed."""
    if load.lines % load.pools or load.past_events % load.pools:
        raise ValueError("each pool has as many lines, and as many past events, as all others")
    now = now.replace(microsecond=0)
    async with connection.transaction():
        await connection.execute("SET LOCAL jit = off; SET LOCAL work_mem = '64MB'")
        await _supplies(connection, load, now)
        await _lines(connection, load, now)
        await _past(connection, load, now)
        await _journal(connection, load, now)
    # As after some time of ordinary life. Not of the log, which nobody reads again: a vacuum of it would write it anew,
    # and so that none does while something is measured, it is left alone in all databases that are compared.
    await connection.execute("ALTER TABLE events SET (autovacuum_enabled = off)")
    await connection.execute("VACUUM (ANALYZE) pools, orders, lines, supplies, timers, queue_days, journal, log_head")
    await connection.execute("ANALYZE events")
    await connection.execute("CHECKPOINT")


async def counted(connection: asyncpg.Connection) -> Counted:
    row = await connection.fetchrow("""
        SELECT (SELECT count(*) FROM lines WHERE quantity_waiting > 0) AS lines,
               (SELECT count(*) FROM pools WHERE waiting > 0) AS pools,
               (SELECT count(*) FROM events) AS events, pg_database_size(current_database()) AS bytes""")
    return Counted(row["lines"], row["pools"], row["events"], row["bytes"])


async def _supplies(connection: asyncpg.Connection, load: Load, now: datetime) -> None:
    """Pools with what is to come for them, and the timers of that."""
    await connection.execute(
        """INSERT INTO pools (pool_id, sku, location, waiting, named, queue_end, revision) OVERRIDING SYSTEM VALUE
           SELECT n, 'SKU-' || n, $2, $3, true, $4, $3 FROM generate_series(1, $1::integer) n""",
        load.pools,
        LOCATION,
        load.lines // load.pools,
        now if load.lines else None,
    )
    await connection.execute("SELECT setval(pg_get_serial_sequence('pools', 'pool_id'), $1)", load.pools)
    await connection.execute(
        """INSERT INTO supplies (sku, supply_id, revision, pool_id, quantity, received, expected_at, first_expected_at,
                                 supplier, cancelled, overdue, fingerprint)
           SELECT 'SKU-' || p, 'S-' || s, 1, p, $3, 0, $4::timestamptz + s * interval '1 day',
                  $4::timestamptz + s * interval '1 day', 'acme', false, false, decode(md5(p || '/' || s), 'hex')
           FROM generate_series(1, $1::integer) p, generate_series(1, $2::integer) s""",
        load.pools,
        load.supplies,
        load.units_to_come,
        now + COMES_FROM,
    )
    await connection.execute(
        """INSERT INTO timers (kind, subject, supply_id, due_at)
           SELECT 'overdue', sku, supply_id, expected_at FROM supplies"""
    )


async def _lines(connection: asyncpg.Connection, load: Load, now: datetime) -> None:
    """Orders of one line each that waits, and the events that said so."""
    if not load.lines:
        return
    # `at_place` counts from 1 in each pool; the supply that covers a place is known without a sum, since lines have one
    # unit each.
    await connection.execute(
        """CREATE TEMPORARY TABLE placed ON COMMIT DROP AS
           SELECT n, 'w-' || lpad(n::text, 8, '0') AS order_id, n % $2 + 1 AS pool_id, n / $2 AS ahead,
                  date_trunc('second', $3::timestamptz - $4::interval * (1 - (n + 1)::float8 / $1)) AS placed_at,
                  CASE WHEN n / $2 < $5::bigint * $6 THEN n / $2 / $5 + 1 END AS supply
           FROM generate_series(0, $1::bigint - 1) n""",
        load.lines,
        load.pools,
        now,
        load.placed_within,
        load.units_to_come,
        load.supplies,
    )
    await connection.execute(
        """INSERT INTO orders (order_id, placed_at, ranked_at, customer_id, fingerprint, backorders_version)
           SELECT order_id, placed_at, placed_at, 'customer-of-' || order_id, decode(md5(order_id), 'hex'), 1
           FROM placed ORDER BY n"""
    )
    await connection.execute(
        """INSERT INTO lines (order_id, line_no, pool_id, ranked_at, quantity_ordered, quantity_allocated,
                              quantity_waiting, quantity_cancelled, quantity_rejected, quantity_shipped,
                              quantity_released, releases, promised_at, first_promised_at)
           SELECT order_id, 1, pool_id, placed_at, 1, 0, 1, 0, 0, 0, 0, '[]', promised_at, promised_at
           FROM placed, LATERAL (SELECT $1::timestamptz + supply * interval '1 day') p (promised_at)
           ORDER BY n""",
        now + COMES_FROM,
    )
    await connection.execute(
        """INSERT INTO queue_days
           SELECT pool_id, (placed_at AT TIME ZONE 'UTC')::date, count(*) FROM placed GROUP BY 1, 2"""
    )
    await connection.execute(
        f"""INSERT INTO events (batch_id, ordinal, topic, key, version, id, type, occurred_at, caused_by, value, why)
            SELECT n / {A_BATCH}, n % {A_BATCH}, 'backorders', order_id, 1, md5('event' || order_id)::uuid,
                   'BackorderCreated', placed_at, order_id || '/placed', {created()},
                   jsonb_build_object('ahead', ahead, 'promised_by', 'supply S-' || supply, 'safety_stock', 0)
            FROM placed, LATERAL (SELECT $1::timestamptz + supply * interval '1 day') p (promised_at)
            ORDER BY n""",
        now + COMES_FROM,
    )


async def _past(connection: asyncpg.Connection, load: Load, now: datetime) -> None:
    """What shops were told of the pools again and again, the newest as it is now."""
    if not load.past_events:
        return
    times = load.past_events // load.pools
    together = min(load.pools, A_BATCH)
    portions = -(-load.pools // together)
    place = load.lines // load.pools
    covered = place < load.supplies * load.units_to_come
    next_at = now + COMES_FROM + timedelta(days=place // load.units_to_come + 1) if covered else None
    # In journal entry `batch + 1`, for the time number `v` + 1, pools from `portion * together` on.
    batch = f"{_entries(load)} + v * {portions} + portion"
    # Indexes of many rows are made faster afterwards.
    await connection.execute(
        "ALTER TABLE events DROP CONSTRAINT events_pkey, DROP CONSTRAINT a_version_is_given_once;"
        "SET LOCAL maintenance_work_mem = '1GB'"
    )
    await connection.execute(
        f"""INSERT INTO events (batch_id, ordinal, topic, key, version, id, type, occurred_at, caused_by, value)
            SELECT {batch}, ordinal, 'availability', '{LOCATION}:SKU-' || pool_id, v + 1,
                   md5('shown' || pool_id || '/' || v)::uuid, 'SkuAvailability', {literal(now)},
                   'planner:' || {batch} + 1, {shown(place, next_at, now, batch)}
            FROM generate_series(0, {times - 1}) v, generate_series(0, {portions - 1}) portion,
                 generate_series(0, least({together}, {load.pools} - portion * {together}) - 1) ordinal,
                 LATERAL (SELECT portion * {together} + ordinal + 1) p (pool_id)"""
    )
    await connection.execute(
        f"""INSERT INTO journal (number, batch_id, kind, what, at, first_seq, event_count, applied, duplicates, ignored,
                                 dead_letters)
            SELECT {batch} + 1, {batch}, 'planner', what, {literal(now)},
                   {load.lines} + v::bigint * {load.pools} + portion * {together} + 1, size, 0, 0, 0, 0
            FROM generate_series(0, {times - 1}) v, (
                SELECT (pool_id - 1) / {together} AS portion, count(*) AS size, jsonb_build_object(
                           'at', {literal(now)}, 'pools', jsonb_agg(jsonb_build_array(sku, location)), 'most', 5000
                       ) AS what
                FROM pools GROUP BY 1
            ) w"""
    )
    await connection.execute(
        """UPDATE pools SET availability_version = $1, shown = jsonb_build_object('status', 'backorder', 'available', 0,
               'waiting', waiting, 'next_promise_at', $2::timestamptz)""",
        times,
        next_at,
    )
    await connection.execute(
        """ALTER TABLE events ADD PRIMARY KEY (batch_id, ordinal),
               ADD CONSTRAINT a_version_is_given_once UNIQUE (key, topic, version)"""
    )


async def _journal(connection: asyncpg.Connection, load: Load, now: datetime) -> None:
    """Batches of orders, batches of supplies, the word that their topics were made again, and the heads of the log."""
    announced = load.pools * load.supplies
    await _batches(connection, "orders", load.lines, 0, f"n * {A_BATCH}", "size", now)
    await _batches(connection, "inbound-supply", announced, -(-load.lines // A_BATCH), str(load.lines), "0", now)
    gone = {"inbound-supply": announced} | ({"orders": load.lines} if load.lines else {})
    last = _entries(load) + load.past_events // load.pools * -(-load.pools // A_BATCH)
    seq = load.lines + load.past_events
    await connection.execute(
        """INSERT INTO journal (number, batch_id, kind, what, at, first_seq, event_count, applied, duplicates, ignored,
                                dead_letters)
           SELECT $1::bigint + 1, $1, 'accepted',
                  jsonb_build_object('finding', 'recreated_topic', 'topics', to_jsonb($3::text[]), 'gone', (
                      SELECT jsonb_agg(jsonb_build_object('topic', topic, 'partition', 0, 'from', worked, 'to', null))
                      FROM unnest($3::text[], $4::bigint[]) u (topic, worked))),
                  $2, $5::bigint + 1, 0, 0, 0, 0, 0""",
        last,
        now,
        list(gone),
        list(gone.values()),
        seq,
    )
    await connection.execute("SELECT setval('batch_ids', $1)", last + 1)
    await connection.execute("UPDATE log_head SET seq = $1, journal = $2, epoch = $3", seq, last + 1, EPOCH)
    await connection.execute("UPDATE relay SET seq = $1, journal = $2", seq, last + 1)


async def _batches(
    connection: asyncpg.Connection, topic: str, messages: int, first: int, seq: str, events: str, now: datetime
) -> None:
    """Journal entries of all messages of a topic, from batch `first` on; `seq`, `events`: SQL of n and size."""
    await connection.execute(
        f"""INSERT INTO journal (number, batch_id, kind, what, at, first_seq, event_count, applied, duplicates, ignored,
                                 dead_letters)
            SELECT {first} + n + 1, {first} + n, 'batch', jsonb_build_array(jsonb_build_object(
                       'topic', '{topic}', 'partition', 0, 'from', n * {A_BATCH}, 'to', n * {A_BATCH} + size)),
                   {literal(now)}, {seq} + 1, {events}, size, 0, 0, 0
            FROM generate_series(0, {-(-messages // A_BATCH) - 1}) n,
                 LATERAL (SELECT least({A_BATCH}, {messages} - n * {A_BATCH})) s (size)"""
    )


def _entries(load: Load) -> int:
    """Journal entries of orders and supplies."""
    return -(-load.lines // A_BATCH) - (-load.pools * load.supplies // A_BATCH)
