"""Where a command or the service ends: its exit code, and an answer that can be read whatever it shows."""

import json
import signal
import socket
from pathlib import Path

import pytest
from aiokafka.errors import KafkaConnectionError

from backorder_allocator import cli
from backorder_allocator.masking import masked
from backorder_allocator.output import as_json
from tests.e2e.processes import start


def test_a_dead_letter_with_half_a_surrogate_pair_or_nan_is_shown_as_json(
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    as_json(masked(rb'{"sku": "\ud800 \u00e4", "quantity": NaN, "delta": -Infinity}'))
    shown = json.loads(capsysbinary.readouterr().out, parse_constant=pytest.fail)
    assert shown == {"sku": "\ud800 ä", "quantity": "NaN", "delta": "-Infinity"}


def test_kafka_that_goes_away_during_a_command_is_exit_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away() -> None:
        raise KafkaConnectionError("no broker")

    monkeypatch.setattr(cli, "cli", away)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 3
    assert "Kafka is not reachable" in capsys.readouterr().err


async def test_sigterm_while_the_service_waits_for_kafka_ends_it_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        settings = {
            "ALLOCATOR_DATABASE_URL": "postgresql://127.0.0.1:1/x",
            "ALLOCATOR_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{silent.getsockname()[1]}",
            "ALLOCATOR_START_TIMEOUT_SECONDS": "600",
        }
        service = start("backorder-allocator", "waiting", settings, tmp_path)
        try:
            # Takes the connection and says nothing.
            with silent.accept()[0]:
                service.signal(signal.SIGTERM)
                assert await service.ended() == 0, service.explain()
        finally:
            service.kill()
    assert "ended before it could begin" in service.said()
