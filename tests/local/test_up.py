"""The whole stack with both services."""

import json
import subprocess
import sysconfig
import urllib.request
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from tests.local.command import Home, Up, eventually

SCRIPTS = Path(sysconfig.get_path("scripts"))
AT = "2026-11-02T09:00:00Z"
RECEIPT = {
    "type": "StockReceived",
    "id": "wms/r-1",
    "occurred_at": AT,
    "receipt_id": "r-1",
    "sku": "PHONE-X",
    "quantity": 10,
}
ORDER = {
    "type": "OrderPlaced",
    "id": "shop/1001",
    "occurred_at": AT,
    "order_id": "1001",
    "placed_at": AT,
    "currency": "EUR",
    "customer": {"customer_id": "c-7", "email": "ada@example.org"},
    "lines": [{"line_no": 1, "sku": "PHONE-X", "quantity": 15, "unit_price": "499.00"}],
}


def allocator(home: Home, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """As a user does after `eval "$(backorder env)"`."""
    return subprocess.run(
        [SCRIPTS / "backorder-allocator", *arguments, "--json"],
        env=home.environment(**home.variables()),
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_order_is_answered_by_mail_and_everything_is_there_after_a_restart(home: Home) -> None:
    data = home.folder / "data"
    with home.up("--data-dir", data) as up:
        for service in ("Allocator", "Notifier"):
            [line] = [line for line in up.said().splitlines() if line.startswith(service)]
            with urllib.request.urlopen(f"{line.split()[1]}/readyz") as answer:  # noqa: S310
                assert answer.status == 200
        assert home.run("send", "stock-received", given=json.dumps(RECEIPT)).returncode == 0
        eventually(lambda: '"on_hand": 10' in allocator(home, "queue", "PHONE-X").stdout, up.said)
        assert home.run("send", "orders", given=json.dumps(ORDER)).returncode == 0
        eventually(lambda: home.run("mail", "--order", "1001").stdout, up.said)
        [mail] = json.loads(home.run("mail", "--json", "--to", "ada@example.org").stdout)
        assert "1001" in mail["subject"]
        before = allocator(home, "explain", "1001")
        assert before.returncode == 0, before.stderr
    with home.up("--data-dir", data):
        assert allocator(home, "explain", "1001").stdout == before.stdout
        assert [mail] == json.loads(home.run("mail", "--json").stdout)


def test_a_service_that_ends_by_itself_ends_the_stack_with_its_log(home: Home, running: Up, shared_home: Home) -> None:
    with home.up("--prefix", "died.", **shared_home.variables(), BACKORDER_WITH="") as up:
        assert "died." in home.variables()["ALLOCATOR_TOPIC_PREFIX"]
        [notifier] = [each for each in up.descendants() if "backorder-notifier" in " ".join(each.cmdline()[:2])]
        psutil.Process(notifier.pid).kill()
        assert up.process.wait(60) == 1
        assert "notifier: ended by itself with exit code 137" in up.said()
        assert "logs/notifier.log" in up.said()


def test_a_setting_that_a_service_refuses_is_shown(home: Home, running: Up, shared_home: Home) -> None:
    result = home.run("up", "--prefix", "refused.", **shared_home.variables(), BACKORDER_WITH="", NOTIFIER_COLOUR="red")
    assert result.returncode == 1
    assert "NOTIFIER_COLOUR" in result.stderr
