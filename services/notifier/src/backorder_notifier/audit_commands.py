"""The command `audit`: the rules that must always hold, of the database alone or of the topics too."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import asyncpg

from backorder_notifier import audits, terminal, topic_audits
from backorder_notifier.checks import Check
from backorder_notifier.display import print_json, print_rows
from backorder_notifier.terminal import reading, with_database


def audit(*, topics: bool, strict: bool, as_json: bool) -> bool:
    """Print the checks; gives whether they are clean."""
    settings = terminal.settings()

    async def of_the_database(connection: Any) -> list[Check]:
        return await audits.audit(connection, settings.policy)

    async def of_the_topics_too(connection: asyncpg.Connection) -> list[Check]:
        live = await terminal.connect(settings.database_url.get_secret_value())
        try:
            return await topic_audits.audit(
                connection, live, settings.policy, settings.bootstrap_servers, settings.topic_prefix
            )
        finally:
            await live.close(timeout=5)

    checks = with_database(of_the_topics_too) if topics else reading(of_the_database)
    is_clean = audits.is_clean(checks, strict=strict)
    show(checks, is_clean=is_clean, as_json=as_json)
    return is_clean


def show(checks: Sequence[Check], *, is_clean: bool, as_json: bool) -> None:
    """As JSON, or a line for each rule, each example, and what led to the first of a rule."""
    never = [check for check in checks if not check.checked]
    if as_json:
        rows = [{name: value for name, value in asdict(check).items() if name != "about"} for check in checks]
        print_json({"clean": is_clean, "never_checked": [check.rule for check in never], "checks": rows})
        return
    print_rows([asdict(each) for each in checks], ("rule", "checked", "violations", "excused", "strangers"), "")
    for check in checks:
        for example in check.examples:
            sys.stdout.write(f"VIOLATION {check.rule}: {example}\n")
        for link in check.chain:
            sys.stdout.write(f"    {link['words']}\n")
    for check in never:
        sys.stdout.write(f"NEVER CHECKED {check.rule}{': ' + check.unchecked if check.unchecked else ''}\n")
