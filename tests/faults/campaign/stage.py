"""Everything the campaign runs on: servers, proxies, databases, topics and the settings of the services."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from backorder_local import processes
from backorder_local.place import Place
from backorder_local.place import place as make_place
from tests.e2e.processes import SCRIPTS, clean_environment
from tests.faults.campaign.faults import SERVICES, Ground
from tests.faults.campaign.proxy import Protocol
from tests.faults.campaign.servers import Kafka, Postgres, forget_thaws
from tests.faults.campaign.supervisor import Service, Supervisor
from tests.faults.campaign.wire import Wire

SLOTS = 3
"""Two of each service that always run, and one for guests and replacements."""
PROTOCOLS: dict[str, Protocol] = {"kafka": "kafka", "postgres": "postgres", "smtp": "smtp"}
ALLOCATOR = {
    "ALLOCATOR_HTTP_PORT": "0",
    "ALLOCATOR_HEAD_STARTS": '{"gold": "P1D", "platinum": "P2D"}',
    "ALLOCATOR_COMPLETE_ESCALATES_AFTER_DAYS": str(1 / 12),  # two hours: see demand.AGES
    "ALLOCATOR_OVERDUE_SUPPLY": "3",
    "ALLOCATOR_MAX_BATCH_RECORDS": "200",
}
NOTIFIER = {
    "NOTIFIER_HTTP_PORT": "0",
    "NOTIFIER_MAIL_FROM": "Shop <shop@example.org>",
    "NOTIFIER_EMAIL_PER_SECOND": "500",
    # What a killed process had in its hands counts until its lease ends: with few, the mails of a long run pile up.
    "NOTIFIER_SEND_CONCURRENCY": "32",
    "NOTIFIER_DAILY_CAP": "1000",
    "NOTIFIER_RETRY_FIRST": "PT0.3S",
    "NOTIFIER_RETRY_LONGEST": "PT3S",
    "NOTIFIER_SMTP_TIMEOUT": "PT4S",
    "NOTIFIER_SMTP_ANSWER_TIMEOUT": "PT8S",
    "NOTIFIER_LEASE": "PT10S",
    "NOTIFIER_DEBOUNCE": '{"default": {"quiet": "PT0.5S", "at_most": "PT2S"}, '
    '"promise_changed": {"quiet": "PT1S", "at_most": "PT4S"}}',
}


@dataclass
class Stage:
    place: Place
    ground: Ground
    kafka: Kafka
    postgres: Postgres
    wire: Wire
    supervisor: Supervisor
    urls: dict[Service, str]
    """Databases, past the proxies."""
    direct: dict[str, str]
    """Settings of both services past the proxies, for commands."""
    mails: Path

    async def command(self, *arguments: str, seconds: float) -> tuple[int, str, str]:
        """Exit code, output and errors of a command of a service, such as ("allocator", "audit", "--json")."""
        service, *rest = arguments
        own = {name: value for name, value in self.direct.items() if name.startswith(service.upper())}
        process = await asyncio.create_subprocess_exec(
            SCRIPTS / f"backorder-{service}",
            *rest,
            env=clean_environment() | own,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, errors = await asyncio.wait_for(process.communicate(), seconds)
        except BaseException:
            if process.returncode is None:
                process.kill()
            raise
        return process.returncode or 0, out.decode(), errors.decode(errors="replace")


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    """Starts the servers, makes databases and topics; services are not started yet. Ends all of it."""
    with make_place(folder) as place:
        mails = place.folder / "mails.jsonl"
        wire = await Wire.start(mails, place.logs / "wire.log")
        names = [f"{service}-{number}" for service in SERVICES for number in range(1, SLOTS + 1)]
        ports = {name: processes.port_or_free(0, "Kafka", "") for name in names}
        kafka = Kafka(place, processes.port_or_free(0, "Kafka", ""), ports)
        postgres = Postgres(place, processes.port_or_free(0, "PostgreSQL", ""))
        supervisor = Supervisor(place, {})
        try:
            proxies = await wire.open(
                (f"{server}/{name}", PROTOCOLS[server], 0, target)
                for name in names
                for server, target in (("kafka", ports[name]), ("postgres", postgres.port), ("smtp", 0))
            )
            kafka.advertised = {name: proxies[f"kafka/{name}"] for name in names}
            started = await asyncio.gather(kafka.start(), postgres.start(), return_exceptions=True)
            for problem in started:
                if problem is not None:
                    raise problem
            await postgres.log_slow_statements()
            urls: dict[Service, str] = {service: await postgres.make_database(service) for service in SERVICES}
            supervisor = Supervisor(
                place,
                {
                    service: [
                        settings(service, postgres, proxies, f"{service}-{number}") for number in range(1, SLOTS + 1)
                    ]
                    for service in SERVICES
                },
            )
            direct = {
                **ALLOCATOR,
                **NOTIFIER,
                "ALLOCATOR_DATABASE_URL": urls["allocator"],
                "NOTIFIER_DATABASE_URL": urls["notifier"],
                "ALLOCATOR_KAFKA_BOOTSTRAP_SERVERS": kafka.address,
                "NOTIFIER_KAFKA_BOOTSTRAP_SERVERS": kafka.address,
                "NOTIFIER_SMTP_URL": f"smtp://127.0.0.1:{proxies['smtp/notifier-1']}",
            }
            ground = Ground(kafka, postgres, wire, supervisor, list(SERVICES))
            stage = Stage(place, ground, kafka, postgres, wire, supervisor, urls, direct, mails)
            prepared = await asyncio.gather(
                stage.command("allocator", "migrate", seconds=60),
                stage.command("notifier", "migrate", seconds=60),
                stage.command("allocator", "topics", "--apply", seconds=60),
            )
            for code, _, errors in prepared:
                if code != 0:
                    raise RuntimeError(f"the stage could not be set:\n{errors}")
            yield stage
        finally:
            await asyncio.shield(end(supervisor, kafka, postgres, wire))


async def end(supervisor: Supervisor, kafka: Kafka, postgres: Postgres, wire: Wire) -> None:
    await supervisor.kill_all()
    await asyncio.gather(kafka.stop(kill=True), postgres.stop(immediate=True), return_exceptions=True)
    await wire.close()
    await asyncio.to_thread(forget_thaws)


def settings(service: Service, postgres: Postgres, proxies: dict[str, int], slot: str) -> dict[str, str]:
    """Of a process in one place: every server is behind that place's own proxy."""
    prefix = service.upper()
    own = {
        f"{prefix}_DATABASE_URL": postgres.database(service, proxies[f"postgres/{slot}"]),
        f"{prefix}_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{proxies[f'kafka/{slot}']}",
    }
    if service == "allocator":
        return ALLOCATOR | own
    return NOTIFIER | own | {"NOTIFIER_SMTP_URL": f"smtp://127.0.0.1:{proxies[f'smtp/{slot}']}"}


def new_folder() -> Path:
    """A folder of this campaign's own, for PostgreSQL's user to enter as well."""
    return Path(tempfile.mkdtemp(prefix="backorder-faults-", dir=os.environ.get("BACKORDER_FAULTS_DIR")))
