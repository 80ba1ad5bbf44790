"""HTTP: what the service says of itself (/livez, /readyz, /metrics, /asyncapi, /asyncapi.json), and the server."""

import contextlib
import json
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvicorn
from faststream.asgi import AsgiFastStream, AsgiResponse, AsyncAPIRoute, get
from faststream.kafka import KafkaBroker
from faststream.specification import AsyncAPI
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from backorder_notifier.errors import ConfigurationError
from backorder_notifier.telemetry import REGISTRY

Checks = Callable[[], Awaitable[dict[str, bool]]]
"""What must be true, by name."""


def build_app(broker: KafkaBroker, alive: Checks, ready: Checks) -> AsgiFastStream:
    """Answers only; the broker is started and stopped elsewhere, since it may have to be tried again."""

    @get(include_in_schema=False)
    async def livez(_scope: Any) -> AsgiResponse:
        return _verdict(await alive())

    @get(include_in_schema=False)
    async def readyz(_scope: Any) -> AsgiResponse:
        return _verdict(await ready())

    @get(include_in_schema=False)
    async def metrics(_scope: Any) -> AsgiResponse:
        return AsgiResponse(generate_latest(REGISTRY), 200, {"Content-Type": CONTENT_TYPE_LATEST})

    return AsgiFastStream(
        broker,
        asgi_routes=[("/livez", livez), ("/readyz", readyz), ("/metrics", metrics)],
        # The route to try things out would let anyone who reaches this port publish.
        asyncapi_path=AsyncAPIRoute("/asyncapi", try_it_out_path=None),
        specification=AsyncAPI(
            title="Backorder notifier", version="0.1.0", description="Tells customers what happens to their backorders"
        ),
        logger=None,
    )


def _verdict(checks: dict[str, bool]) -> AsgiResponse:
    fine = all(checks.values())
    body = json.dumps({"ok": fine, "checks": checks}).encode()
    return AsgiResponse(body, 200 if fine else 503, {"Content-Type": "application/json"})


class Server(uvicorn.Server):
    """uvicorn without its hands on our signals: it would raise them again after its own end, before ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def build_server(app: Callable[..., Awaitable[None]]) -> Server:
    """`app`: ASGI."""
    return Server(
        uvicorn.Config(
            app,
            lifespan="off",  # it would start the broker
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=2,
        )
    )


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one. Raises ConfigurationError where it can't be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise ConfigurationError(f"NOTIFIER_HTTP_HOST, NOTIFIER_HTTP_PORT: {host}:{port}: {error.strerror}") from None
    return bound
