"""The engine behind all fake services: it serves each of them and the control API on a separate port."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
from collections.abc import Awaitable, Callable
from functools import partial

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from sandbox.application_insights import ApplicationInsights
from sandbox.aws.topic import Topic
from sandbox.documents import document_of
from sandbox.domains import CLIENTS, DOMAINS
from sandbox.hmpps import mapping, prisoner_search
from sandbox.hmpps.auth import Auth
from sandbox.http.faults import Faults
from sandbox.http.latency import ResponseTimer
from sandbox.http.records import Records
from sandbox.http.serving import Route, Service
from sandbox.nomis import prisoners as nomis_prisoners
from sandbox.options import Options
from sandbox.slack.api import Slack
from sandbox.world import World

LARGEST_BODY = 64 * 1024 * 1024
BACKLOG = 1024
SHUTDOWN_SECONDS = 0.1
LARGE_WORLD = 1_000
WITHOUT_TOKENS = ("auth", "slack", "application-insights")
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class CannotListenError(RuntimeError):
    """The sandbox cannot listen on a port. `taken` says whether something else is already listening on that port."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        """Says on which port the sandbox cannot listen, and why."""
        reason = (error.strerror or str(error)).partition(" (")[0]
        super().__init__(f"cannot listen on port {port} of {host}: {reason}")
        self.taken = error.errno == errno.EADDRINUSE


class Engine:
    """Serves a world on one event loop; nothing listens before `start`.

    Args:
        options: the options of the first world.
        emulator_url: the address of the SNS and SQS emulator. If it is None, there are no queues until `use_emulator`
            sets the address.
    """

    def __init__(self, options: Options, emulator_url: str | None = None) -> None:
        """Makes the world and its services."""
        self.records = Records()
        self.faults = Faults()
        self.auth = Auth(CLIENTS)
        self.slack = Slack()
        self.insights = ApplicationInsights()
        self.topic = Topic(emulator_url)
        self.ports: dict[str, int] = {}
        self.host = "127.0.0.1"
        self._timer = ResponseTimer()
        self._runners: list[web.ServerRunner] = []
        self._adopt(options)
        routes = self._routes()
        self.services = {name: self._service(name, routes[name]) for name in NAMES}
        self._behave()
        self._settle_memory()

    def reset(self, options: Options) -> None:
        """Replaces the world with a new one, switches faults and latency off, and clears everything recorded so far."""
        self._adopt(options)
        routes = self._routes()
        for name, service in self.services.items():
            service.install(routes[name])
            service.latency.seconds = 0.0
        self.faults.clear()
        self.records.clear()
        self.slack.clear()
        self.insights.clear()
        self.topic.forget()
        self._behave()
        self._settle_memory()

    def use_emulator(self, url: str) -> None:
        """Publishes events to the emulator at this address from now on."""
        self.topic.endpoint_url = url
        self.topic.forget()

    async def start(self, host: str, port_base: int, control: Handler) -> None:
        """Listens on free ports if `port_base` is 0, otherwise on `port_base` (control) and the ports after it.

        Raises:
            CannotListenError: the sandbox cannot listen on one of the ports, for example because the port is taken.
        """
        self.host = host
        handlers: dict[str, Handler] = {"control": control} | {
            name: service.handle for name, service in self.services.items()
        }
        for place, (name, handler) in enumerate(handlers.items()):
            server = web.Server(handler, request_factory=_request, access_log=None)
            runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_SECONDS)
            await runner.setup()
            self._runners.append(runner)
            listener = _listener(host, port_base + place if port_base else 0)
            self.ports[name] = listener.getsockname()[1]
            await web.SockSite(runner, listener, backlog=BACKLOG).start()

    async def stop(self) -> None:
        """Closes all ports, including that of the control API, and ends the thread that publishes events."""
        for runner in self._runners:
            await runner.cleanup()
        self.topic.close()

    def url(self, name: str) -> str:
        """Returns the base address of a service or, for the name `control`, of the control API."""
        return f"http://{self.host}:{self.ports[name]}"

    def environment(self) -> dict[str, str]:
        """Returns the settings that the program needs to run against this sandbox."""
        settings = {
            "API_BASE_URL_OAUTH": f"{self.url('auth')}/auth",
            **{client.address_variable: self.url(client.service) for client in CLIENTS},
            "SLACK_TOKEN": self.slack.token,
            "SLACK_CHANNEL": self.slack.channel,
            "SLACK_API_URL": f"{self.url('slack')}/api/",
            "HMPPS_SQS_PROVIDER": "localstack",
            "HMPPS_SQS_REGION": "eu-west-2",
            "AWS_ACCESS_KEY_ID": "sandbox",
            "AWS_SECRET_ACCESS_KEY": "sandbox",
            "AWS_DEFAULT_REGION": "eu-west-2",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        for client in CLIENTS:
            settings[f"{client.prefix}_CLIENT_ID"] = client.client_id
            settings[f"{client.prefix}_CLIENT_SECRET"] = client.secret
        if self.topic.endpoint_url is not None:
            settings["HMPPS_SQS_LOCALSTACK_URL"] = self.topic.endpoint_url
            settings["AWS_ENDPOINT_URL"] = self.topic.endpoint_url
        return settings

    def _adopt(self, options: Options) -> None:
        """Makes a new world with garbage collection switched off.

        Garbage collection would slow down the creation of the world's many objects.
        """
        gc.unfreeze()
        gc.disable()
        try:
            self.world = World(options, self.topic)
        finally:
            gc.enable()

    def _settle_memory(self) -> None:
        """If the new world is large, frees the previous one, and excludes the new one from garbage collection."""
        if self.world.options.prisoners >= LARGE_WORLD:
            gc.collect()
            gc.freeze()

    def _behave(self) -> None:
        """Restores the usual roles of all clients, and sets up the services as the world's options say."""
        self.auth.roles.clear()
        self.auth.token_seconds = self.world.options.token_seconds
        self.auth.tell_expiry = self.world.options.tell_expiry
        self.services["nomis"].pool = self.world.options.nomis_pool
        for name, service in self.services.items():
            service.document = partial(document_of, name, self.world.options.month, self.world.today)

    def _routes(self) -> dict[str, list[Route]]:
        return {
            **routes_of(self.world),
            "auth": self.auth.routes(),
            "slack": self.slack.routes(),
            "application-insights": self.insights.routes(),
        }

    def _service(self, name: str, routes: list[Route]) -> Service:
        holder_of = None if name in WITHOUT_TOKENS else self.auth.holder_of
        ping = "/auth/health/ping" if name == "auth" else "/health/ping"
        return Service(name, routes, self.records, self.faults, holder_of, ping, timer=self._timer)


def _listener(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=BACKLOG)
    except OSError as error:
        raise CannotListenError(host, port, error) from error


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    """Makes a request whose body may be up to `LARGEST_BODY` bytes long, enough for an uploaded file."""
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=LARGEST_BODY)


#: A new service must be added at the end: the ports follow this order, and `compose.yaml` names them.
NAMES = (
    "auth",
    "nomis",
    "mapping",
    "visits",
    "incentives",
    "activities",
    "appointments",
    "adjustments",
    "prisoner-search",
    "slack",
    "application-insights",
)


def routes_of(world: World) -> dict[str, list[Route]]:
    """Returns the endpoints that each HMPPS service except Auth has in the world's month."""
    month = world.options.month
    return {name: [each for each in routes if each.is_there(month)] for name, routes in _all_routes(world).items()}


def _all_routes(world: World) -> dict[str, list[Route]]:
    return {
        "mapping": mapping.routes(world),
        "nomis": [
            *nomis_prisoners.routes(world),
            *(route for domain in DOMAINS for routes in domain.nomis for route in routes(world)),
        ],
        **{
            domain.client.service: [route for routes in domain.publisher for route in routes(world)]
            for domain in DOMAINS
        },
        "prisoner-search": prisoner_search.routes(world),
    }
