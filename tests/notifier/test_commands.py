"""The commands as an operator runs them: JSON with stable keys, exit codes, clear errors, and no contact data."""

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from backorder_notifier import cli, terminal
from backorder_notifier.audits import BY_SQL, NEVER_BACK
from backorder_notifier.intake import READS
from backorder_notifier.kinds import KINDS
from backorder_notifier.reasons import REASONS
from backorder_notifier.settings import Settings
from tests.conftest import Databases
from tests.notifier.conftest import Season
from tests.notifier.messages import contact_changed
from tests.notifier.season import POLICY, PROMISED
from tests.notifier.shop import Shop

T = TypeVar("T")
COMMAND = Path(sys.executable).with_name("backorder-notifier")
NOBODY = "127.0.0.1:9"


@dataclass
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Says = Callable[..., Said]


def environment(database_url: str) -> dict[str, str]:
    """Of the shop of the season."""
    return {
        "NOTIFIER_DATABASE_URL": database_url,
        "NOTIFIER_KAFKA_BOOTSTRAP_SERVERS": NOBODY,
        "NOTIFIER_CHANNELS": "email,sms,webhook",
        "NOTIFIER_SMTP_URL": f"smtp://{NOBODY}",
        "NOTIFIER_MAIL_FROM": "Shop <shop@example.org>",
        "NOTIFIER_SMS_PROVIDER": "generic",
        "NOTIFIER_SMS_URL": "https://sms.example.org",
        "NOTIFIER_SMS_TOKEN": "hunter2",
        "NOTIFIER_SMS_FROM": "Shop",
        "NOTIFIER_WEBHOOK_URL": "https://127.0.0.1/hooks",
        "NOTIFIER_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
        "NOTIFIER_WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    }


@pytest.fixture
def says(season: Season, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Says:
    """Runs commands against that database at the end of the season, in this process: starting one takes a second."""
    for name in os.environ:
        if name.startswith("NOTIFIER_"):
            monkeypatch.delenv(name)
    for name, value in environment(season.url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(terminal, "now", lambda: season.ended_at + timedelta(seconds=1))

    def run(*args: str, **changed: str) -> Said:
        code = 0
        with monkeypatch.context() as here:
            here.setattr(sys, "argv", ["backorder-notifier", *args])
            for name, value in changed.items():
                here.setenv(name, value)
            try:
                cli.main()
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return run


@dataclass
class Copied:
    """A copy that may be changed: by commands (`says`), and by the shop that lives on in it (`lives`)."""

    says: Says
    url: str
    now: datetime

    def lives(self, work: Callable[[Shop], Awaitable[T]]) -> T:
        async def run() -> T:
            connection = await asyncpg.connect(self.url)
            shop = Shop(connection, POLICY, self.now)
            shop.log.next_offset = dict.fromkeys(("orders", "backorders", "customers"), 1000)
            try:
                return await work(shop)
            finally:
                self.now = shop.now
                await connection.close()

        return asyncio.run(run())

    def resend(self, *arguments: str) -> list[tuple[str, str]]:
        """(channel, action) each."""
        return [(row["channel"], row["action"]) for row in self.says("resend", *arguments, "--json").json]


@pytest.fixture
def copied(says: Says, season: Season, postgres: Databases, monkeypatch: pytest.MonkeyPatch) -> Copied:
    copied = Copied(says, postgres.create_database(template=season.url), season.ended_at)
    monkeypatch.setenv("NOTIFIER_DATABASE_URL", copied.url)
    monkeypatch.setattr(terminal, "now", lambda: copied.now)
    return copied


# ── why ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_why_tells_every_event_with_what_became_of_it_and_a_reason_in_words(says: Says) -> None:
    found = says("why", "whole", "--json").json
    assert [(row["type"], row["state"], row["reason"], row["position"]) for row in found["updates"]] == [
        ("BackorderCreated", "told", None, 1),
        ("PromiseChanged", "not_told", "too_small", None),
        ("PromiseChanged", "told", None, 2),
        ("BackorderFilled", "told", None, 3),
        ("LinesShipped", "told", None, 4),
        ("LinesDelivered", "told", None, 5),
        ("TimerDue", "told", None, 6),
    ]
    assert found["updates"][1]["because"] == "The date moved by less than is worth a message."
    assert found["updates"][1]["says"] == "promised 2026-11-13 instead of 2026-11-12 (supply_moved)"
    assert [row["kind"] for row in found["messages"]] == [
        "backorder_created", "promise_changed", "backorder_filled", "shipped", "delivered", "feedback_request",
    ]  # fmt: skip
    text = says("why", "whole").out
    assert "line 1: 5 of 15 units begin to wait; promised 2026-11-12 → told in message 1." in text
    assert text.rstrip().endswith("Nothing waits.")
    moments = re.findall(r"^(2026-\S+)\t", text, re.MULTILINE)
    assert len(moments) > 15
    assert moments == sorted(moments)


def test_why_tells_of_a_date_that_came_back(says: Says) -> None:
    updates = says("why", "back", "--json").json["updates"]
    assert [(row["state"], row["reason"]) for row in updates[1:3]] == [
        ("superseded", "later_date"), ("not_told", "back_to_what_was_told"),
    ]  # fmt: skip


def test_why_shows_every_try_with_its_outcome_and_what_comes_of_it(says: Says) -> None:
    def by_mail(order_id: str) -> Any:
        (message,) = says("why", order_id, "--json").json["messages"]
        return next(row for row in message["deliveries"] if row["channel"] == "email")

    refused = by_mail("refused")
    assert (refused["state"], refused["reason"], refused["says"]) == ("failed", "smtp 550 5.1.1", "It failed for good.")
    assert [(row["outcome"], row["reason"], row["because"]) for row in refused["tries"]] == [
        ("never", "smtp 550 5.1.1", "refused for good")
    ]
    later = by_mail("later")
    assert (later["state"], later["attempts"], later["because"]) == ("due", 1, "The provider's answer: smtp 451 4.3.0.")
    assert re.fullmatch(r"It is tried again at 2026-11-1\d \S+Z\.", later["says"])


def test_why_says_which_channels_are_open_and_why_the_others_are_not(says: Says) -> None:
    def channels(order_id: str) -> dict[str, tuple[bool, bool, str | None]]:
        rows = says("why", order_id, "--json").json["contact"]["channels"]
        return {row["channel"]: (row["open"], row["open_for_optional_kinds"], row["reason"]) for row in rows}

    assert channels("night") == {"email": (True, True, None), "sms": (True, True, None), "webhook": (True, True, None)}
    assert channels("refused")["email"] == (False, False, "suppressed")
    assert channels("nobody")["email"] == (False, False, "no_email")
    assert channels("off")["email"] == (True, False, None)
    assert channels("erased")["email"] == (False, False, "forgotten")
    assert channels("whole")["sms"] == (False, False, "channel_not_chosen")
    assert "email: closed. There is no email address of the customer.\n" in says("why", "nobody").out
    assert "The customer was forgotten at 2026-11-" in says("why", "erased").out
    assert "The customer wants no optional messages.\n" in says("why", "off").out


def test_why_says_what_waits_for_what_and_until_when(says: Says) -> None:
    def waits(order_id: str) -> str:
        return "\n".join(says("why", order_id, "--json").json["waits"])

    assert re.match(r"Waits until 2026-11-\S+ \S+Z: 1 promise_changed\. What comes until then", waits("pending"))
    assert waits("unplaced").startswith("Waits for the OrderPlaced of this order")
    assert "Version 3 on backorders waits for an earlier one" in waits("gap")
    assert re.search(r"Message 2 by sms: It waits until 2026-11-\S+ 23:00:00Z, when the quiet hours", waits("night"))
    assert "Message 1 by email: It is tried again at" in waits("later")
    assert waits("refused").endswith("`backorder-notifier resend --order refused` tells it.")
    assert waits("whole") == ""


def test_why_says_what_comes_by_itself(says: Says) -> None:
    comes = says("why", "refused", "--json").json["next"]
    assert comes == []  # nobody was told a date, so there is none to be reminded of
    kinds = [row["kind"] for row in says("why", "copied", "--json").json["next"]]
    assert kinds == ["promise_missed"]
    assert "Next: promise_missed of line 1 at 2026-11-13T09:00:00.000Z" in says("why", "copied").out


def test_why_of_an_order_that_nobody_named_says_what_that_may_mean(says: Says) -> None:
    said = says("why", "9999")
    assert (said.code, said.out) == (1, "")
    assert "order 9999 is not known: no message named it yet" in said.err


# ── outbox, status ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_outbox_shows_what_did_not_reach_its_customer_and_leaves_out_what_they_did_not_choose(says: Says) -> None:
    failed = says("outbox", "--failed", "--json").json
    assert [(row["order_id"], row["channel"], row["state"], row["reason"]) for row in failed] == [
        ("nobody", "email", "withheld", "no_email"),
        ("refused", "email", "failed", "smtp 550 5.1.1"),
    ]
    assert failed[0]["because"] == "There is no email address of the customer."
    due = says("outbox", "--state", "due", "--json").json
    assert {(row["order_id"], row["channel"]) for row in due} == {("later", "email"), ("night", "sms")}
    assert len(says("outbox", "--order", "whole", "--json").json) == 18
    assert len(says("outbox", "--order", "whole", "--channel", "email", "--kind", "shipped", "--json").json) == 1
    assert len(says("outbox", "--limit", "3", "--json").json) == 3
    for wrong in (("--state", "lost"), ("--channel", "fax"), ("--kind", "told")):
        said = says("outbox", *wrong)
        assert (said.code, "should be one of" in said.err) == (2, True)


def test_status_says_what_waits_for_what(says: Says) -> None:
    status = says("status", "--json").json
    waits = status["waits"]
    assert (waits["updates_pending"], waits["orders_without_contact"]) == (3, 2)
    assert (waits["deliveries_due"], waits["held_by_quiet_hours"], waits["backing_off"]) == (2, 1, 1)
    assert (waits["addresses_suppressed"], waits["parked"], waits["dead_letters"]) == (1, 1, 1)
    assert [(row["domain"], row["refusals"]) for row in status["domain_backoffs"]] == [("slow.example", 1)]
    assert {"kind": "promise_changed", "state": "not_told", "reason": "too_small", "updates": 1} in status["updates"]
    counted = {(row["kind"], row["channel"], row["state"]): row["deliveries"] for row in status["deliveries"]}
    assert counted["promise_changed", "email", "sent"] == 1
    assert sum(counted.values()) == len(says("outbox", "--json", "--limit", "1000").json)


# ── resend ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_failed_is_sent_once_its_customer_can_be_reached_again(copied: Copied) -> None:
    async def soon(shop: Shop) -> None:
        await shop.comes(contact_changed("c-nobody", email="found@example.org", occurred_at=shop.now))

    refused = copied.says("resend", "--order", "nobody")
    assert (refused.code, "There is no email address" in refused.out) == (1, True)
    copied.lives(soon)
    assert copied.resend("--order", "nobody", "--note", "wrote by hand") == [("email", "recomposed")]

    async def told(shop: Shop) -> list[str]:
        await shop.decides(after=timedelta(0))
        await shop.sends()
        return shop.kinds()

    assert "backorder_created" in copied.lives(told)
    assert copied.resend("--order", "nobody") == []
    found = copied.says("why", "nobody", "--json").json
    assert [(row["what"], row["by"], row["note"]) for row in found["interventions"]] == [
        ("recomposed", terminal.user(), "wrote by hand")
    ]
    assert copied.says("audit").code == 0


def test_the_last_word_that_failed_just_now_is_sent_as_it_is(copied: Copied) -> None:
    async def fails(shop: Shop) -> None:
        await shop.connection.execute(
            "UPDATE deliveries SET state = 'failed', reason = 'smtp 554', settled_at = $1 WHERE order_id = 'later'"
            " AND channel = 'email'",
            shop.now,
        )
        await shop.connection.execute(
            "UPDATE orders SET outcome_version = outcome_version + 1 WHERE order_id = 'later'"
        )
        await shop.connection.execute("DELETE FROM outbox WHERE order_id = 'later'")
        await shop.connection.execute("DELETE FROM domain_backoffs")

    async def sends(shop: Shop) -> list[tuple[str, str]]:
        await shop.sends()
        return [(outgoing.order_id, outgoing.content.kind) for outgoing in shop.senders["email"].got]

    copied.lives(fails)
    before = copied.says("why", "later", "--json").json["messages"]
    assert copied.resend("--order", "later") == [("email", "resent")]
    assert copied.resend("--order", "later") == [("email", "already_due")]
    assert ("later", "backorder_created") in copied.lives(sends)
    after = copied.says("why", "later", "--json").json["messages"]
    assert [row["message_id"] for row in after] == [row["message_id"] for row in before]
    assert copied.says("audit").code == 0


def test_a_reminder_that_failed_long_ago_is_decided_anew_and_told_where_it_still_holds(copied: Copied) -> None:
    async def failed(shop: Shop) -> None:
        await shop.connection.execute(
            "UPDATE deliveries SET state = 'failed', reason = 'smtp 554' FROM messages"
            " WHERE messages.message_id = deliveries.message_id AND kind = 'promise_approaching'"
            " AND messages.order_id = 'copied' AND channel = 'email'"
        )
        await shop.connection.execute(
            "UPDATE messages SET composed_at = composed_at - interval '3 days' WHERE kind = 'promise_approaching'"
        )

    async def told(shop: Shop) -> list[str]:
        await shop.decides(after=timedelta(0))
        await shop.sends()
        return [outgoing.content.kind for outgoing in shop.senders["email"].got if outgoing.order_id == "copied"]

    copied.now = PROMISED.replace(hour=8)  # within two days of when it was due
    copied.lives(failed)
    assert copied.resend("--order", "copied") == [("email", "recomposed")]
    assert copied.lives(told) == ["promise_approaching"]


def test_what_is_put_off_is_tried_at_once_and_quiet_hours_are_kept(copied: Copied) -> None:
    assert copied.resend("--order", "later") == [("email", "brought_forward")]
    assert copied.resend("--order", "later") == [("email", "already_due")]
    assert copied.resend("--order", "night") == [("sms", "already_due")]


def test_what_was_accepted_is_repeated_only_when_asked_for_and_as_a_message_of_its_own(copied: Copied) -> None:
    (mail,) = copied.says("outbox", "--order", "cancelled", "--channel", "email", "--json").json
    refused = copied.says("resend", mail["delivery_id"])
    assert refused.code == 1
    assert "It was accepted. With --again the customer gets it a second time." in refused.out
    assert copied.resend("--order", "cancelled", "--again") == [("email", "sent_again")]
    assert copied.resend("--order", "cancelled", "--again") == [("email", "already_due")]
    assert copied.says("resend", mail["delivery_id"], "--again").code == 1  # a later one says it

    async def sends(shop: Shop) -> Any:
        await shop.sends()
        return [outgoing for outgoing in shop.senders["email"].got if outgoing.order_id == "cancelled"]

    (outgoing,) = copied.lives(sends)
    assert str(outgoing.message_id) != mail["message_id"]  # or mail programs would hide it
    assert list(outgoing.about) == mail["about"]
    assert copied.says("audit").code == 0


def test_an_older_message_is_not_repeated_as_it_may_say_what_is_not_so_any_more(copied: Copied) -> None:
    mails = copied.says("outbox", "--order", "whole", "--channel", "email", "--json").json
    said = copied.says("resend", mails[-1]["delivery_id"], "--again")
    assert (said.code, "Message 6 of the order is later." in said.out) == (1, True)


def test_resend_wants_one_delivery_or_one_order(copied: Copied) -> None:
    assert copied.says("resend").code == 2
    assert copied.says("resend", "--order", "9999").code == 1
    assert copied.says("resend", "00000000-0000-0000-0000-000000000000").code == 1
    assert copied.says("resend", "--order", "later", "--note", "two\nlines").code == 2
    nothing = copied.says("resend", "--order", "whole")
    assert (nothing.code, nothing.out) == (0, "")


# ── customers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_who_is_forgotten_is_erased_and_who_asks_is_shown_everything(copied: Copied) -> None:
    held = copied.says("export", "c-whole").json
    assert [order["email"] for order in held["orders"]] == ["whole@example.org"]
    done = copied.says("forget", "c-whole", "--json").json
    assert (done["known"], done["orders"]) == (True, 1)
    assert "whole@example.org" not in copied.says("export", "c-whole").out
    assert copied.says("why", "whole", "--json").json["contact"]["forgotten_at"] is not None
    assert copied.says("audit").code == 0


def test_nothing_is_held_of_a_customer_that_nobody_named(copied: Copied) -> None:
    said = copied.says("export", "c-9999")
    assert (said.code, said.out) == (1, "")
    assert "was not known" in copied.says("forget", "c-9999").out


def test_addresses_that_nothing_is_sent_to_are_listed_masked_added_and_removed(copied: Copied) -> None:
    (row,) = copied.says("suppressions", "list", "--json").json
    assert (row["channel"], row["address"], row["reason"]) == ("email", "d***@example.org", "smtp 550 5.1.1")
    assert copied.says("suppressions", "list", "--reveal", "--json").json[0]["address"] == "dead@example.org"
    assert copied.says("suppressions", "add", "Whole@Example.org", "--json").json == {"channel": "email", "added": True}
    assert copied.says("suppressions", "add", "whole@example.org", "--json").json["added"] is False
    assert copied.says("why", "whole", "--json").json["contact"]["channels"][0]["reason"] == "suppressed"
    assert copied.says("suppressions", "remove", "whole@example.org").code == 0
    assert copied.says("suppressions", "remove", "whole@example.org").code == 1
    assert copied.says("suppressions", "add", "+4915112345678", "--channel", "sms").code == 0
    for wrong in (("no address",), ("015112345678", "--channel", "sms"), ("a@b.example", "--channel", "fax")):
        assert copied.says("suppressions", "add", *wrong).code == 2
    (listed,) = copied.says("suppressions", "list", "--channel", "sms", "--json").json
    assert listed["address"] == "+49***78"


# ── dead letters ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_dead_letters_are_shown_masked_driven_again_and_purged_by_age(copied: Copied) -> None:
    (letter,) = copied.says("dlq", "list", "--json").json
    shown = copied.says("dlq", "show", str(letter["id"])).json
    assert "letter@example.org" not in json.dumps(shown)
    assert "letter@example.org" in copied.says("dlq", "show", str(letter["id"]), "--reveal").out
    assert copied.says("dlq", "show", "99").code == 1
    still = copied.says("dlq", "redrive", "--all", "--json")
    assert (still.code, [row["used"] for row in still.json["letters"]]) == (1, [False])
    assert [
        len(copied.says("dlq", "list", "--json", *some).json) for some in (("--since", "1h"), ("--until", "1h"))
    ] == [1, 0]
    assert copied.says("dlq", "list").out.split("\t")[1] == "invalid"
    for wrong in (("list", "--since", "yesterday"), ("redrive", "--why", " "), ("redrive", "--all", "--reason", "x")):
        assert copied.says("dlq", *wrong).code == 2
    assert [copied.says("dlq", "redrive", *none).code for none in ((), ("7",), ("1", "--all"))] == [1, 1, 2]
    assert copied.says("dlq", "purge", "--older-than", "30d", "--json").json["purged"] == 0

    async def published(shop: Shop) -> None:
        await shop.connection.execute("UPDATE dead_letters SET published_at = failed_at")
        shop.waits(days=31)

    copied.lives(published)
    assert copied.says("dlq", "purge", "--older-than", "30d", "--json").json["purged"] == 1
    assert copied.says("dlq", "purge", "--older-than", "soon").code == 2


# ── previews ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_messages_can_be_looked_at_before_anybody_gets_one(
    says: Says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOTIFIER_DATABASE_URL")
    said = says("render", "shipped", "--locale", "de")
    assert said.code == 0
    assert "Sendung" in said.out or "unterwegs" in said.out
    assert says("render", "shipped", "--part", "html").out.lstrip().startswith("<!")
    assert says("render", "told").code == 2
    assert says("render", "shipped", "--part", "fax").code == 2
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert says("render", "shipped", "--open").code == 0
    Path(opened[0].removeprefix("file://")).unlink()
    written = says("gallery", str(tmp_path / "all"), "--json").json
    page = Path(written["page"]).read_text(encoding="utf-8")
    assert all(kind in page for kind in KINDS)
    (tmp_path / "file").touch()
    assert says("gallery", str(tmp_path / "file")).code == 2


# ── doctor, settings, wrong usage ────────────────────────────────────────────────────────────────────────────────────


def test_the_doctor_finds_what_is_wrong_and_names_the_way_out(says: Says, mail_sink: Any) -> None:
    said = says(
        "doctor", "--json", NOTIFIER_SMTP_URL=mail_sink.smtp_url, NOTIFIER_PUBLIC_URL="https://shop.example.org"
    )
    found = {row["about"]: row for row in said.json}
    assert said.code == 1  # no Kafka here; and tests run without fsync
    assert {about for about, row in found.items() if row["state"] == "wrong"} <= {"kafka", "database"}
    assert found["kafka"]["says"].startswith("It can't be reached")
    assert {about for about, row in found.items() if row["state"] == "fine"} >= {
        "settings", "schema", "email", "sms", "webhook", "templates", "time zones",
    }  # fmt: skip
    assert mail_sink.messages == [] or all("shop.example.org" not in str(mail) for mail in mail_sink.messages)
    wrong = {row["about"]: row["says"] for row in says("doctor", "--json").json if row["state"] != "fine"}
    assert "can't be reached as NOTIFIER_SMTP_URL says" in wrong["email"]
    assert "set NOTIFIER_PUBLIC_URL" in wrong["unsubscribing"]
    for scheme, lacking in (("smtp+starttls://", "STARTTLS"), ("smtp://", "AUTH")):
        url = mail_sink.smtp_url.replace("smtp://", f"{scheme}user:pass@")
        found = {row["about"]: row["says"] for row in says("doctor", "--json", NOTIFIER_SMTP_URL=url).json}
        assert f"offers no {lacking}, and NOTIFIER_SMTP_URL has" in found["email"]


def test_a_database_of_another_release_is_refused_with_the_way_out(says: Says, postgres: Databases) -> None:
    empty = postgres.create_database()
    said = says("status", NOTIFIER_DATABASE_URL=empty)
    assert (said.code, "run backorder-notifier migrate" in said.err) == (2, True)
    assert says("migrate", "--check", NOTIFIER_DATABASE_URL=empty).code == 1
    assert says("migrate", "--json", NOTIFIER_DATABASE_URL=empty).json["applied"][0] == "0001_first"
    assert says("migrate", "--check", NOTIFIER_DATABASE_URL=empty).code == 0


def test_wrong_settings_are_exit_2_and_what_can_not_be_reached_is_exit_3(says: Says) -> None:
    said = says("status", NOTIFIER_DATABASE_ULR="x")
    assert (said.code, "did you mean NOTIFIER_DATABASE_URL" in said.err) == (2, True)
    assert says("status", NOTIFIER_DATABASE_URL="postgresql://u@127.0.0.1:9/x").code == 3
    assert says("lag").code == 3
    assert says("why").code == 2
    assert says("why", "nul\x00byte").code == 2
    assert says("nonsense").code == 2


def test_settings_are_listed_without_secrets(says: Says) -> None:
    listed = {row["name"]: row["value"] for row in says("settings", "--json").json}
    assert listed["NOTIFIER_CHANNELS"] == "email,sms,webhook"
    assert listed["NOTIFIER_SMS_TOKEN"] == "********"


def test_no_answer_has_contact_data_in_it_but_those_that_are_asked_for_it(says: Says) -> None:
    commands = ["status", "audit", "outbox --limit 1000", "suppressions list", "dlq list", "dlq show 1", "settings"]
    commands += [f"why {name}" for name in ("whole", "night", "refused", "erased", "later", "off")]
    answers = [says(*command.split(), *shown) for command in commands for shown in ([], ["--json"])]
    everything = "\n".join(answer.out + answer.err for answer in answers)
    assert len(everything) > 20_000
    assert not re.search(r"\b\w+@(example\.org|slow\.example)|819012345678|\bAda\b", everything.replace("shop@", ""))


# ── the documented keys ──────────────────────────────────────────────────────────────────────────────────────────────

README = Path(__file__).parents[2] / "services" / "notifier" / "README.md"
DOCUMENTED = dict(re.findall(r"```json ([^\n]+)\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL))
NEED_KAFKA = {"lag"}


def keys(answer: Any) -> Any:
    """The shape of an answer: its keys, and those of the first element of each list. Some values hold anything."""
    match answer:
        case dict():
            return {
                name: None if name in {"value", "customer", "orders"} else keys(each) for name, each in answer.items()
            }
        case [first, *_]:
            return [keys(first)]
        case _:
            return None


def test_every_command_has_an_example_in_the_readme() -> None:
    assert {command.split(" --")[0].split()[0] for command in DOCUMENTED} == {
        "migrate", "status", "lag", "why", "render", "gallery", "outbox", "resend", "suppressions", "forget", "export",
        "audit", "dlq", "doctor", "settings",
    }  # fmt: skip


def test_the_readme_names_every_setting_kind_and_rule_and_every_reason_in_the_words_of_why() -> None:
    text = README.read_text(encoding="utf-8")
    named = [f"`NOTIFIER_{name.upper()}`" for name in Settings.model_fields]
    named += [f"| `{kind}` |" for kind in KINDS] + [f"| {rule} |" for rule in (*BY_SQL, NEVER_BACK)]
    named += [f"| `{reason}` | {sentence} |" for reason, sentence in REASONS.items() if reason not in KINDS]
    assert [each for each in named if each not in text] == []


def test_the_keys_of_json_answers_are_those_of_the_readme(copied: Copied, tmp_path: Path) -> None:
    given, documented = {}, {}
    for command in sorted(DOCUMENTED.keys() - NEED_KAFKA):
        arguments = shlex.split(command.replace("FOLDER", str(tmp_path)))
        answer = copied.says(*arguments, *([] if arguments[0] == "export" else ["--json"]))
        given[command], documented[command] = keys(answer.json), keys(json.loads(DOCUMENTED[command]))
    assert given == documented


def test_lag_is_what_is_left_of_each_log_in_records_and_seconds(says: Says, kafka: str, unique: str) -> None:
    here = {"NOTIFIER_KAFKA_BOOTSTRAP_SERVERS": kafka, "NOTIFIER_TOPIC_PREFIX": unique}
    missing = says("lag", **here)
    assert (missing.code, "backorder-allocator topics --apply" in missing.err) == (2, True)
    asyncio.run(produce(kafka, unique))
    rows = says("lag", "--json", **here).json
    assert keys(rows) == keys(json.loads(DOCUMENTED["lag"]))
    by_partition = {(row["topic"], row["partition"]): row for row in rows}
    assert len(rows) == 2 * len(READS)
    assert (by_partition["orders", 0]["end_offset"], by_partition["orders", 0]["lag"]) == (9, 9)
    assert by_partition["orders", 0]["lag_seconds"] is not None
    assert (by_partition["catalog", 1]["lag"], by_partition["catalog", 1]["lag_seconds"]) == (0, 0.0)


async def produce(kafka: str, prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(prefix + topic, 2, 1) for topic in READS])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    for _ in range(9):
        await producer.send_and_wait(f"{prefix}orders", b"{}", partition=0)
    await producer.stop()


def test_the_command_itself_answers(season: Season) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFIER_")}
    done = subprocess.run(
        [COMMAND, "why", "whole", "--json"],
        env=clean | environment(season.url),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["order_id"] == "whole"
