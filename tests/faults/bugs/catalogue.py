"""The planted bugs. The rule that must find each was written down before it was tried."""

from tests.faults.bugs.planted import Bug, Change

WORKED_ONCE = "every input is worked once"
ONE_OUTCOME = "every batch has one outcome for each of its records"
COUNTERS = "counters equal their sums"
PUBLISHED = "everything logged is published"

POSITIONS = (
    Bug(
        "no cursor check",
        "allocator",
        (
            Change(
                "batches.py",
                "fresh = [record for record in records if record.offset >= cursors[record.topic, record.partition]]",
                "fresh = list(records)",
            ),
        ),
        WORKED_ONCE,
        "a frozen process wakes up with a batch in hand",
    ),
    Bug(
        "offset committed first",
        "allocator",
        (
            Change(
                "batches.py",
                "    once = partial(_work_once, connection, records, touched, context, now)\n",
                "    ends = {(record.topic, record.partition): record.offset + 1 for record in records}\n"
                "    known = await store.read_cursors(connection, ends)\n"
                "    await store.move_cursors(connection, {key: max(end, known[key]) for key, end in ends.items()})\n"
                "    records = [r for r in records if r.offset >= known[r.topic, r.partition]]\n"
                "    once = partial(_work_once, connection, records, touched, context, now)\n",
            ),
            Change(
                "batches.py",
                "fresh = [record for record in records if record.offset >= cursors[record.topic, record.partition]]",
                "fresh = list(records)",
            ),
            Change("batches.py", "_ranges(fresh, cursors)", "_ranges(fresh, dict.fromkeys(ends, 0))"),
        ),
        WORKED_ONCE,
        "killed before the commit",
    ),
    Bug(
        "a failed batch is not tried again",
        "allocator",
        (
            Change(
                "intake.py",
                "                self.not_done(error)\n            else:\n                self.halvings = 0\n",
                "                self.not_done(error)\n                return True\n"
                "            else:\n                self.halvings = 0\n",
            ),
        ),
        ONE_OUTCOME,
        "a transaction fails",
    ),
    Bug(
        "the journal's range is one too short",
        "allocator",
        (
            Change(
                "batches.py",
                'ranges[-1]["to"] = reached_to[key] = record.offset + 1',
                'ranges[-1]["to"] = record.offset; reached_to[key] = record.offset + 1',
            ),
        ),
        WORKED_ONCE,
        "a day",
    ),
    Bug(
        "a dead letter is not kept",
        "allocator",
        (Change("batches.py", "    await dead_letters.keep(connection, _refused(fresh, outcomes), now)\n", ""),),
        "every input below its cursor had its outcome",
        "a day",
    ),
)

STOCK = (
    Bug(
        "no row lock on pools",
        "allocator",
        (Change("sql/lock_pools.sql", "ORDER BY pool_id\nFOR UPDATE", "ORDER BY pool_id"),),
        COUNTERS,
        "two processes sell one pool",
    ),
    Bug(
        "the same stock is checked twice",
        "allocator",
        (
            Change(
                "store.py",
                '    rows = await run(connection, "lock_pools", sorted(ids))\n',
                "    from backorder_allocator.statements import statement\n\n"
                '    look = statement("lock_pools").replace("FOR UPDATE", "")\n'
                "    rows = await connection.fetch(look, sorted(ids))\n"
                '    await run(connection, "lock_pools", sorted(ids))\n',
            ),
        ),
        COUNTERS,
        "two processes sell one pool",
    ),
    Bug(
        "locks are not sorted",
        "allocator",
        (Change("sql/lock_pools.sql", "ORDER BY pool_id\nFOR UPDATE", "ORDER BY random()\nFOR UPDATE"),),
        "deadlocks",
        "orders name the same SKUs in any order",
    ),
    Bug(
        "SKIP LOCKED allocation",
        "allocator",
        (
            Change(
                "sql/queue_heads.sql",
                "        LIMIT w.units\n",
                "        LIMIT w.units\n        FOR UPDATE OF l SKIP LOCKED\n",
            ),
        ),
        "the first in rank is served first",
        "somebody looks at the first in line",
    ),
    Bug(
        "a cancelled backorder fills the next in line",
        "allocator",
        (
            Change(
                "placing.py",
                "work.shift(line, -from_waiting)",
                "work.shift(line, -from_waiting); work.pool(line.pool).on_hand += from_waiting",
            ),
            Change("placing.py", "return from_allocated > 0", "return True"),
        ),
        "stock is conserved",
        "a day",
    ),
    Bug(
        "a counter is not updated",
        "allocator",
        (Change("sql/update_pools.sql", "waiting = c.waiting,", "waiting = p.waiting,"),),
        COUNTERS,
        "a day",
    ),
    Bug(
        "a supply is promised twice",
        "allocator",
        (Change("work.py", "            units + (ahead or 0),\n", "            units,\n"),),
        "no supply covers two promises",
        "a day",
    ),
)

TOLD = (
    Bug(
        "a send is not awaited",
        "allocator",
        (
            Change(
                "relay.py",
                "results = await asyncio.gather(*sent, return_exceptions=True)",
                "results: list[object] = []",
            ),
        ),
        PUBLISHED,
        "Kafka refuses records for a while",
    ),
    Bug(
        "the relay moves before it sends",
        "allocator",
        (
            Change(
                "relay.py",
                "        await self.send([self.message(logged.event) for logged in events])\n"
                '        reached("relay.acked")\n'
                "        last = events[-1]\n",
                "        last = events[-1]\n",
            ),
            Change(
                "relay.py",
                "        self.held = moved\n",
                "        self.held = moved\n"
                "        await self.send([self.message(logged.event) for logged in events])\n",
            ),
        ),
        PUBLISHED,
        "Kafka refuses records for a while",
    ),
    Bug(
        "a relay without lease",
        "allocator",
        (
            Change(
                "sql/take_relay_lease.sql",
                "WHERE holder IS NULL OR holder = $1 OR lease_until < clock_timestamp()",
                "WHERE true",
            ),
            Change("sql/take_relay_lease.sql", "CASE WHEN holder = $1 THEN epoch ELSE epoch + 1 END", "epoch"),
            Change(
                "sql/move_relay.sql",
                "SET seq = $2, journal = $3 WHERE epoch = $1 AND seq <= $2",
                "SET seq = greatest(seq, $2), journal = greatest(journal, $3) WHERE epoch = $1",
            ),
            # It asks where it is in every turn, as it believes the answer whoever it is.
            Change("relay.py", "RENEW_SECONDS = 5.0", "RENEW_SECONDS = 60.0"),
            Change(
                "relay.py",
                "self.in_doubt = InDoubt(since, lease.seq + EVENTS_AT_ONCE, asked + SEND_TIMEOUT_SECONDS)",
                "self.in_doubt = None",
            ),
        ),
        "the newest availability is the last on its topic",
        "a frozen relay wakes up in the middle of a send",
    ),
    Bug(
        "a version is skipped",
        "allocator",
        (Change("work.py", "order.backorders_version += 1", "order.backorders_version += 2"),),
        "versions have no gap",
        "a day",
    ),
    Bug(
        "the wrong partition key",
        "allocator",
        (Change("relay.py", "event.key.encode(), event.value", "str(event.id).encode(), event.value"),),
        "every copy has the log's bytes, key and headers",
        "a day",
    ),
    Bug(
        "availability is noted as shown and not told",
        "allocator",
        (Change("planning.py", "            events.append(_available(stale, now_shown, at))\n", ""),),
        "availability is as told",
        "a day",
    ),
)

MAILS = (
    Bug(
        "a mail is marked sent before it is sent",
        "notifier",
        (
            Change(
                "lane.py",
                "        task = asyncio.create_task(hand_over(self._provider.sender, row, now))\n",
                '        await self._settle(row, Answer("sent"), now)\n'
                "        task = asyncio.create_task(hand_over(self._provider.sender, row, now))\n",
            ),
            Change("lane.py", "        await self._settle(row, answer, tried_at)\n", ""),
        ),
        "mails",
        "killed when a mail is marked",
    ),
    Bug(
        "a mail is sent before its try is committed",
        "notifier",
        (
            Change(
                "lane.py",
                "            claimed = await claim(connection, self._channel, self._provider, now, most)\n",
                "            intent = connection.transaction()\n"
                "            await intent.start()\n"
                "            claimed = await claim(connection, self._channel, self._provider, now, most)\n"
                "            early = [await hand_over(self._provider.sender, row, now) for row in claimed.rows]\n",
            ),
            Change(
                "lane.py",
                '                reached("sending.claimed")\n',
                '                reached("sending.claimed")\n            await intent.commit()\n',
            ),
            Change(
                "lane.py",
                "        for row in claimed.rows:\n            self._begin(row, None, began)\n",
                "        for row, answer in zip(claimed.rows, early):\n            self._begin(row, answer, began)\n",
            ),
        ),
        "mails",
        "killed when a mail is claimed",
    ),
    Bug(
        "an outcome is not published",
        "notifier",
        (
            Change(
                "settling.py",
                "    await _publish(connection, row, version, None, row.attempts, now)\n",
                "",
            ),
        ),
        "every outcome that was given is published",
        "customers are told",
    ),
)

BUGS = (*POSITIONS, *STOCK, *TOLD, *MAILS)
