"""The HTTP endpoints: /livez, /readyz, /metrics, /asyncapi. For probes and people on the operators' network."""

import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass

import uvicorn
from faststream.asgi import AsgiFastStream, AsgiResponse, AsyncAPIRoute, get
from faststream.kafka import KafkaBroker
from faststream.specification import AsyncAPI
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest


@dataclass(frozen=True, slots=True)
class Probe:
    """The answer to a probe: fine or not, and a sentence for each reason why not."""

    ok: bool
    reasons: tuple[str, ...] = ()


Check = Callable[[], Awaitable[Probe]]


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: it raises the signal again at its end, and the exit code would not be 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def make_server(broker: KafkaBroker, version: str, live: Check, ready: Check) -> Server:
    """A server for the probes, the metrics and the AsyncAPI page of a broker."""

    @get
    async def livez(_scope: object) -> AsgiResponse:
        return _answer(await live())

    @get
    async def readyz(_scope: object) -> AsgiResponse:
        return _answer(await ready())

    @get
    async def metrics(_scope: object) -> AsgiResponse:
        return AsgiResponse(generate_latest(), 200, {"content-type": CONTENT_TYPE_LATEST})

    app = AsgiFastStream(
        broker,
        logger=None,
        specification=AsyncAPI(title="Backorder allocator", version=version),
        asgi_routes=[("/livez", livez), ("/readyz", readyz), ("/metrics", metrics)],
        # Without the "try it out" route: it would let whoever reaches the port publish.
        asyncapi_path=AsyncAPIRoute("/asyncapi", try_it_out_path=None),
    )
    # The broker is started and stopped by `app`, not by the web server.
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
    return Server(config)


def _answer(probe: Probe) -> AsgiResponse:
    body = json.dumps(asdict(probe)).encode()
    return AsgiResponse(body, 200 if probe.ok else 503, {"content-type": "application/json"})
