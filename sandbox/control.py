"""The control API (JSON on a separate port), through which tests, the demo and people control the sandbox."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import orjson
from aiohttp import web

from sandbox.aws.topic import domain_event
from sandbox.engine import Engine
from sandbox.http.routing import Router
from sandbox.nomis.prisoners import Movements
from sandbox.options import Options

Body: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Command:
    """One control endpoint: `handler(engine, body, **path_params)` returns a JSON value, or an awaitable of one.

    For a request without a body, `body` is its query. A ValueError, KeyError or TypeError becomes a 400 with the text
    of the error.
    """

    method: str
    template: str
    handler: Callable[..., Any]


class Control:
    """Handles the requests to the control port of an engine."""

    def __init__(self, engine: Engine, further: tuple[Command, ...] = ()) -> None:
        """Takes the engine and the commands of other modules."""
        self.engine = engine
        self.router: Router[Command] = Router()
        for command in (*COMMANDS, *further):
            self.router.add(command.method, command.template, command)

    async def handle(self, http: web.BaseRequest) -> web.StreamResponse:
        """Responds to a control request.

        The status is 404 for an unknown command, 400 for missing or wrong parameters, and 500 for any other error.
        """
        found = self.router.find(http.path)
        if found is None or http.method not in found[0]:
            return _respond(404, {"error": f"no control {http.method} {http.path}"})
        by_method, values = found
        command, names = by_method[http.method]
        raw = await http.read()
        try:
            body = orjson.loads(raw) if raw else dict(http.query)
            if not isinstance(body, dict):
                raise ValueError("the body must be a JSON object")
            result = command.handler(self.engine, body, **dict(zip(names, values, strict=True)))
            if inspect.isawaitable(result):
                result = await result
            return _respond(200, result)
        except ValueError as error:
            return _respond(400, {"error": str(error)})
        except (KeyError, TypeError) as error:
            traceback.print_exc()
            return _respond(400, {"error": f"{type(error).__name__}: {error}"})
        except Exception as error:
            traceback.print_exc()
            return _respond(500, {"error": f"{type(error).__name__}: {error}"})


def _respond(status: int, body: object) -> web.Response:
    # The line ends, so that after `curl` the prompt of a shell is on a new line.
    content = orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE)
    return web.Response(body=content, status=status, headers={"Content-Type": "application/json"})


def where(engine: Engine, body: Body) -> object:
    """Returns the port of every service, and the world's seed and number of prisoners."""
    return {"ports": engine.ports, "prisoners": len(engine.world.prisoners), "seed": engine.world.seed}


def environment(engine: Engine, body: Body) -> object:
    """Returns the settings that the program needs to run against this sandbox."""
    return engine.environment()


def emulator(engine: Engine, body: Body) -> object:
    """Sets the address of the SNS and SQS emulator."""
    engine.use_emulator(str(body["url"]))
    return {}


async def reset(engine: Engine, body: Body) -> object:
    """Replaces the world with a new one, made from the options in the body."""
    engine.reset(Options.read(body))
    # The events of the previous world are published before anybody makes queues for the new one.
    await asyncio.wrap_future(engine.topic.work(lambda: 0))
    return where(engine, {})


def add_fault(engine: Engine, body: Body) -> object:
    """Switches a fault on, with the parameters of `sandbox.http.faults.Fault`."""
    return engine.faults.add(**body).view()


def list_faults(engine: Engine, body: Body) -> object:
    """Lists the faults that are on, each with its number of hits."""
    return engine.faults.views()


def release_fault(engine: Engine, body: Body, fault_id: str) -> object:
    """Releases the requests that a fault with `until_released` keeps waiting."""
    engine.faults.release(int(fault_id))
    return {}


def clear_faults(engine: Engine, body: Body) -> object:
    """Switches all faults off, and releases the requests that faults with `until_released` keep waiting."""
    engine.faults.clear()
    return {}


def latency(engine: Engine, body: Body) -> object:
    """Sets the latency of `service`, or of all services if none is given, to `ms` milliseconds."""
    names = [str(body["service"])] if body.get("service") else list(engine.services)
    for name in names:
        engine.services[name].latency.seconds = float(body["ms"]) / 1000
    return {}


def requests(engine: Engine, body: Body) -> object:
    """Lists the recorded requests to `service`, or to all services if none is given, oldest first."""
    wanted = body.get("service")
    return [seen.view() for seen in engine.records.requests if wanted in (None, "", seen.service)]


def journal(engine: Engine, body: Body) -> object:
    """Lists the writes that `service`, or any service if none is given, has accepted, oldest first."""
    wanted = body.get("service")
    return [accepted.view() for accepted in engine.records.journal if wanted in (None, "", accepted.service)]


def clear_records(engine: Engine, body: Body) -> object:
    """Empties the log of requests and the journal."""
    engine.records.clear()
    return {}


def load(engine: Engine, body: Body) -> object:
    """Returns the greatest number of calls that each service has had in flight at once since the last reset."""
    return {name: service.load.most for name, service in engine.services.items()}


def planted(engine: Engine, body: Body) -> object:
    """Returns what was planted in the world, and its prisoners' movements so far."""
    world = engine.world
    differences = {name: [each.view() for each in found] for name, found in world.differences.items()}
    return {**world.plan.view(), "movements": world.moved, "reconciliations": differences}


def switch(engine: Engine, body: Body, code: str) -> object:
    """Replaces the agencies of a NOMIS service switch with those in the body."""
    engine.world.rollout.switches[code] = [str(each) for each in body["agencies"]]
    return {}


async def waiting(engine: Engine, body: Body) -> object:
    """Sends the planted messages for the queue whose id is `of` (by default `incentive`) to the queue named `queue`."""
    events = engine.world.events_that_wait(str(body.get("of", "incentive")))
    sent = engine.topic.send_waiting(events, str(body["queue"]))
    return {"sent": await asyncio.wrap_future(sent)}


def prisoners(engine: Engine, body: Body) -> object:
    """Lists the active prisoners, each with number, booking and prison."""
    return [
        {"offenderNo": each.offender_no, "bookingId": each.booking_id, "prisonId": each.prison_id}
        for each in engine.world.prisoners
        if each.active
    ]


def custom_events(engine: Engine, body: Body) -> object:
    """Lists the events that Application Insights accepted, as its queries show them."""
    return engine.insights.events


def refuse_events(engine: Engine, body: Body) -> object:
    """Makes Application Insights refuse each event called `name`: every time if `status` is 400, otherwise once."""
    engine.insights.refusals[str(body["name"])] = int(body["status"])
    return {}


def posted(engine: Engine, body: Body) -> object:
    """Lists the messages and files that were posted to Slack."""
    return engine.slack.view()


def expire_tokens(engine: Engine, body: Body) -> object:
    """Makes every token issued so far expire."""
    engine.auth.expire_all()
    return {}


def grant(engine: Engine, body: Body) -> object:
    """Replaces the roles of the program's client of `service` until the next reset, and makes all tokens expire."""
    engine.auth.grant(str(body["service"]), body["roles"])
    engine.auth.expire_all()
    return {}


async def publish(engine: Engine, body: Body) -> object:
    """Publishes an event to the topic `copies` times (by default once)."""
    occurred_at = datetime.fromisoformat(body["occurredAt"]) if body.get("occurredAt") else None
    event = domain_event(body["eventType"], body.get("additionalInformation"), body.get("prisonerId"), occurred_at)
    taken = await _out(engine, [event] * int(body.get("copies", 1)))
    return {"published": taken, "event": event}


async def _out(engine: Engine, events: list[dict[str, object]]) -> int:
    """Publishes events, waits until all are published, and returns how many were accepted."""
    future = engine.world.publish(events)
    return 0 if future is None else await asyncio.wrap_future(future)


async def add_review(engine: Engine, body: Body) -> object:
    """Makes a review in DPS for a prisoner, and publishes the event for the review unless `publish` is false."""
    world = engine.world
    prisoner = world.by_offender[str(body["offenderNo"])]
    at = datetime.fromisoformat(body["at"]) if body.get("at") else None
    comments = body.get("comments")
    review = world.incentives.add_review(
        prisoner.booking_id, str(body["iepCode"]), at, body.get("prisonId"), comments=comments
    )
    if body.get("publish", True):
        await _out(engine, [world.incentives.inserted(review, body.get("reason"))])
    return {"id": review.id, "bookingId": review.booking_id}


def delete_record(engine: Engine, body: Body, booking: str, sequence: str) -> object:
    """Deletes an IEP record, as NOMIS support can."""
    return {"deleted": engine.world.nomis_incentives.delete(int(booking), int(sequence))}


def release(engine: Engine, body: Body, offender_no: str) -> object:
    """Ends the booking of a prisoner, who is no longer listed as active after that."""
    Movements(engine.world).release(engine.world.by_offender[offender_no])
    return {}


def receive(engine: Engine, body: Body) -> object:
    """Receives a new prisoner at `prisonId`, or at a random prison if none is given."""
    prisoner = Movements(engine.world).receive(body.get("prisonId"))
    return {"offenderNo": prisoner.offender_no, "bookingId": prisoner.booking_id, "prisonId": prisoner.prison_id}


def transfer(engine: Engine, body: Body, offender_no: str) -> object:
    """Moves a prisoner to `prisonId`.

    Publishes the event for the arrival unless `publish` is false. DPS learns of the move only from that event.
    """
    return Movements(engine.world).transfer(
        engine.world.by_offender[offender_no], str(body["prisonId"]), bool(body.get("publish", True))
    )


COMMANDS = (
    Command("GET", "/", where),
    Command("GET", "/environment", environment),
    Command("PUT", "/emulator", emulator),
    Command("POST", "/reset", reset),
    Command("POST", "/faults", add_fault),
    Command("GET", "/faults", list_faults),
    Command("POST", "/faults/{fault_id}/release", release_fault),
    Command("DELETE", "/faults", clear_faults),
    Command("PUT", "/latency", latency),
    Command("GET", "/requests", requests),
    Command("GET", "/journal", journal),
    Command("DELETE", "/records", clear_records),
    Command("GET", "/load", load),
    Command("GET", "/planted", planted),
    Command("POST", "/planted/waiting", waiting),
    Command("PUT", "/agency-switches/{code}", switch),
    Command("GET", "/prisoners", prisoners),
    Command("POST", "/prisoners", receive),
    Command("POST", "/prisoners/{offender_no}/release", release),
    Command("POST", "/prisoners/{offender_no}/transfer", transfer),
    Command("GET", "/slack", posted),
    Command("GET", "/custom-events", custom_events),
    Command("POST", "/custom-events/refusals", refuse_events),
    Command("POST", "/tokens/expire", expire_tokens),
    Command("PUT", "/roles", grant),
    Command("POST", "/publish", publish),
    Command("POST", "/reviews", add_review),
    Command("DELETE", "/nomis/incentives/{booking}/{sequence}", delete_record),
)
