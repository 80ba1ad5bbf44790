"""What is wrong after a scene: every rule of the services' own audits, and what no audit can see."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Mapping
from email.message import Message as Mail

from tests.e2e.processes import SCRIPTS, clean_environment
from tests.faults.bugs.stage import Stage

AUDIT_SECONDS = 120
OF_DELIVERY = re.compile("<([0-9a-f-]{36})@")


async def judged(stage: Stage) -> dict[str, str]:
    """The rules that are broken, each with its first example."""
    audits = [broken_rules("backorder-allocator", stage.world.allocator_settings)]
    if stage.uses_notifier:
        audits.append(broken_rules("backorder-notifier", stage.notifying.settings))
    # While the processes still run: what was on its way is repeated by them.
    found = dict(stage.found)
    for broken in await asyncio.gather(*audits):
        found |= broken
    await stage.ended()
    deadlocks = await stage.world.number("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    if deadlocks:
        found["deadlocks"] = f"{deadlocks} in PostgreSQL"
    if stage.uses_notifier and (wrong := await wrong_mails(stage)):
        found["mails"] = wrong
    return found


async def broken_rules(program: str, settings: Mapping[str, str]) -> dict[str, str]:
    """What `audit --topics` of the real source says."""
    process = await asyncio.create_subprocess_exec(
        SCRIPTS / program,
        *("audit", "--topics", "--json"),
        env={**clean_environment(), **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    answer, said = await asyncio.wait_for(process.communicate(), AUDIT_SECONDS)
    if process.returncode not in (0, 1):
        raise RuntimeError(f"{program} audit ended with {process.returncode}: {said.decode()}")
    checks = json.loads(answer)["checks"]
    return {check["rule"]: (check["examples"] or ["?"])[0] for check in checks if check["violations"]}


async def wrong_mails(stage: Stage) -> str:
    """Who was told according to the database has a mail; none has more mails of a message than tries written down."""
    mails = Counter(delivery_of(mail.message) for mail in stage.notifying.mails.messages)
    rows = await stage.notifying.database.fetch(
        "SELECT delivery_id::text, state, attempts FROM deliveries WHERE channel = 'email'"
    )
    wrong = [f"{delivery} is no delivery" for delivery in mails.keys() - {row["delivery_id"] for row in rows}]
    for row in rows:
        got = mails[row["delivery_id"]]
        if row["state"] == "sent" and not got:
            wrong.append(f"{row['delivery_id']} is sent, and there is no mail")
        if got > row["attempts"]:
            wrong.append(f"{row['delivery_id']} has {got} mails after {row['attempts']} tries")
    return "; ".join(sorted(wrong)[:3])


def delivery_of(mail: Mail) -> str:
    found = OF_DELIVERY.search(str(mail["Message-ID"]))
    return found[1] if found else str(mail["Message-ID"])
