"""The rules of the database and of the topics together: what came in, what became of it, and what is published.

Nothing in flight is called a violation. The database's snapshot is taken first and the ends of the topics are asked for
after it: what was published by then is below these ends, and what lies beyond the snapshot is looked up in the database
as it is when it is met.
"""

from collections.abc import Sequence

from backorder_notifier import audits, chains
from backorder_notifier.checks import Check
from backorder_notifier.dead_copies import TOPIC as DEAD_LETTERS
from backorder_notifier.dead_copies import DeadCopies
from backorder_notifier.intake import READS
from backorder_notifier.outcomes_published import TOPIC as OUTCOMES
from backorder_notifier.outcomes_published import OutcomesPublished
from backorder_notifier.policy import Policy
from backorder_notifier.statements import Connection, run
from backorder_notifier.taken import Taken
from backorder_notifier.walking import walker


async def audit(
    snapshot: Connection, live: Connection, policy: Policy, servers: Sequence[str], prefix: str
) -> list[Check]:
    """Check every rule, of tables and topics, on the live system. Reads only; both connections are free.

    Raises UnreachableError if Kafka can't be reached, ConfigurationError if a topic is missing.
    """
    async with (
        walker(servers, prefix, sorted((OUTCOMES, DEAD_LETTERS)), committed=False) as outputs,
        walker(servers, prefix, sorted(READS), committed=True) as inputs,
        snapshot.transaction(isolation="repeatable_read", readonly=True),
    ):
        epoch = (await run(snapshot, "audit_epoch"))[0]["epoch"]
        purged_before = (await run(snapshot, "audit_purged_before"))[0]["purged_before"]
        output_extents, input_extents = await outputs.extents(), await inputs.extents()
        checks = await audits.audit(snapshot, policy)
        published = OutcomesPublished(snapshot, live, epoch)
        await published.walk(outputs, output_extents)
        letters = DeadCopies(snapshot, live, purged_before)
        await letters.walk(outputs, output_extents)
        taken = Taken(snapshot, prefix, purged_before)
        await taken.walk(inputs, input_extents)
        published.given.strangers, letters.kept.strangers = published.strangers, letters.strangers
        published.given.excused = published.of_old_epochs
        more = [*published.checks, *letters.checks, *taken.checks]
        for each in more:
            if each.excused and not each.checked:
                each.unchecked = "all that it would look at was purged, or is older than the topics keep"
        await chains.explain(snapshot, more)
    return [*checks, *more]
