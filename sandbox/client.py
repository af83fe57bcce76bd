"""The handle with which tests, the demo and the benchmarks start and control a sandbox."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Sequence
from datetime import date, datetime
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

from sandbox.application_insights import connection_string
from sandbox.child_processes import SandboxError, end, first_line, spawn

SECONDS_TO_ANSWER = 300


class Sandbox:
    """A running sandbox: a process with the fake services and, unless `start` got `moto=False`, one that emulates AWS.

    The processes end when `stop` is called, at the end of a `with` block, or when the process that started them ends.
    """

    def __init__(
        self, server: subprocess.Popen[bytes], emulator: subprocess.Popen[bytes] | None, ports: dict[str, int]
    ) -> None:
        """Takes processes that are running; use `start` to start them."""
        self._server = server
        self._emulator = emulator
        self._ports = ports
        self._emulator_url: str | None = None

    @classmethod
    def start(
        cls,
        prisoners: int = 200,
        seed: int = 1,
        latency_ms: float = 0,
        moto: bool = True,
        patched: bool = True,
        **options: object,
    ) -> Sandbox:
        """Starts the processes and returns once they respond.

        Args:
            prisoners: the number of active prisoners in the world.
            seed: the seed of all random choices.
            latency_ms: the approximate time that every call takes, in milliseconds.
            moto: whether AWS (SNS, SQS, S3 and SES) is emulated too.
            patched: whether moto is made fast and thread-safe (`sandbox.aws.moto_patches` and `sandbox.aws.serving`).
            **options: further options of the world (`sandbox.options.Options`).

        Raises:
            SandboxError: a process did not start; its own error is on stderr.
        """
        world = _world_options(prisoners, seed, options)
        server = emulator = None
        try:
            emulator = spawn("sandbox.aws.emulator", *([] if patched else ["--unpatched"])) if moto else None
            server = spawn("sandbox.process", "--options", json.dumps(world))
            sandbox = cls(server, emulator, first_line(server, "the fake services")["ports"])
            if emulator is not None:
                sandbox._emulator_url = f"http://127.0.0.1:{first_line(emulator, 'the emulator of AWS')['port']}"
                sandbox.control("PUT", "/emulator", {"url": sandbox._emulator_url})
            if latency_ms:
                sandbox.latency(latency_ms)
        except BaseException:
            end(server, emulator)
            raise
        return sandbox

    def __enter__(self) -> Sandbox:
        """Returns the sandbox, which is stopped at the end of the `with` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops the processes."""
        self.stop()

    def stop(self) -> None:
        """Stops the processes; does nothing if they are already stopped."""
        end(self._server, self._emulator)

    def url(self, service: str) -> str:
        """Returns the base address of a service, or of `control`."""
        return f"http://127.0.0.1:{self._ports[service]}"

    @property
    def emulator_url(self) -> str:
        """The address at which SNS, SQS, S3 and SES are emulated.

        Raises:
            SandboxError: the sandbox was started without the emulator.
        """
        if self._emulator_url is None:
            raise SandboxError("this sandbox runs without queues: start it with moto=True")
        return self._emulator_url

    def environment(self) -> dict[str, str]:
        """Returns all the settings that the program needs to run against this sandbox."""
        return dict(self.control("GET", "/environment"))

    def reset(self, prisoners: int = 200, seed: int = 1, latency_ms: float = 0, **options: object) -> None:
        """Replaces the current world with a new one, and sets the latency to `latency_ms`.

        This also removes all queues, faults, records of requests and writes, Slack messages and custom events.
        """
        if self._emulator_url is not None:
            _call(self._emulator_url, "POST", "/moto-api/reset", None)
        self.control("POST", "/reset", _world_options(prisoners, seed, options))
        if latency_ms:
            self.latency(latency_ms)

    def queues(self) -> dict[str, Any]:
        """Describes the existing subscriptions and queues, without messages, in the form that `make_queues` takes."""
        return dict(_call(self.emulator_url, "GET", "/moto-api/queues", None))

    def make_queues(self, described: dict[str, Any]) -> None:
        """Makes the queues and subscriptions that `queues` described, except those that already exist."""
        _call(self.emulator_url, "POST", "/moto-api/queues", described)

    def fault(
        self,
        service: str = "*",
        method: str = "*",
        path: str | None = None,
        kind: str = "status",
        times: int | None = None,
        probability: float = 1.0,
        seed: int | None = None,
        **parameters: object,
    ) -> int:
        """Switches a fault on and returns its id; the kinds and parameters are those of `sandbox.http.faults.Fault`."""
        body = {
            "service": service,
            "method": method,
            "path": path,
            "kind": kind,
            "times": times,
            "probability": probability,
            "seed": seed,
        }
        return int(self.control("POST", "/faults", {**body, **parameters})["id"])

    def faults(self) -> list[dict[str, Any]]:
        """Returns the faults that are on, each with its `hits`."""
        return list(self.control("GET", "/faults"))

    def release_fault(self, fault_id: int) -> None:
        """Releases the requests that a fault with `until_released` keeps waiting.

        Raises:
            SandboxError: the fault is not on.
        """
        self.control("POST", f"/faults/{fault_id}/release")

    def clear_faults(self) -> None:
        """Switches all faults off, and releases the requests that faults with `until_released` keep waiting."""
        self.control("DELETE", "/faults")

    def latency(self, ms: float, service: str | None = None) -> None:
        """Makes every call to `service`, or to any service if it is None, take about `ms` milliseconds."""
        self.control("PUT", "/latency", {"ms": ms, "service": service})

    def requests(self, service: str | None = None) -> list[dict[str, Any]]:
        """Returns the recorded requests to `service`, or to all services if it is None, oldest first."""
        return list(self.control("GET", _asking("/requests", service)))

    def journal(self, service: str | None = None) -> list[dict[str, Any]]:
        """Returns the writes that `service`, or any service if it is None, has accepted, oldest first."""
        return list(self.control("GET", _asking("/journal", service)))

    def clear_records(self) -> None:
        """Empties the log of requests and the journal."""
        self.control("DELETE", "/records")

    def load(self) -> dict[str, int]:
        """Returns, for each service, the most calls that it has had in flight at once since the last reset."""
        return dict(self.control("GET", "/load"))

    def planted(self) -> dict[str, Any]:
        """Returns what was planted: `mismatches`, `excludedBookings`, `excludedMatching`, `bulkDiffers` and `unmapped`.

        These belong to the reconciliation of incentive levels. `reconciliations` lists, by the name of each other
        reconciliation, the differences planted for it; each difference has `key`, `kind`, `cause` and `outcome`.
        `movements` lists the releases, receptions and transfers so far.
        """
        return dict(self.control("GET", "/planted"))

    def send_waiting(self, queue: str = "hmpps_prisoner_to_nomis_incentive_dlq", of: str = "incentive") -> int:
        """Sends the messages planted for the queue with the id `of`, and returns their number.

        They are sent to the existing queue whose name is `queue`. For `incentive`, they are the events for the reviews
        planted for row 1 of the decision table for incentive levels.
        """
        return int(self.control("POST", "/planted/waiting", {"queue": queue, "of": of})["sent"])

    def switch_agencies(self, service: str, *agencies: str) -> None:
        """Switches a service on in NOMIS for the given agencies only; `*ALL*` means every agency."""
        self.control("PUT", f"/agency-switches/{quote(service)}", {"agencies": list(agencies)})

    def prisoners(self) -> list[dict[str, Any]]:
        """Returns the `offenderNo`, `bookingId` and `prisonId` of each active prisoner."""
        return list(self.control("GET", "/prisoners"))

    def connection_string(self) -> str:
        """Returns the connection string of the fake Application Insights."""
        return connection_string(self.url("application-insights"))

    def custom_events(self) -> list[dict[str, Any]]:
        """Returns the custom events that Application Insights has accepted, as its queries show them."""
        return list(self.control("GET", "/custom-events"))

    def refuse_events(self, name: str, status: int) -> None:
        """Makes Application Insights refuse each event called `name`: every time if `status` is 400, otherwise once."""
        self.control("POST", "/custom-events/refusals", {"name": name, "status": status})

    def slack(self) -> dict[str, Any]:
        """Returns what was posted to Slack: `messages` and `files`."""
        return dict(self.control("GET", "/slack"))

    def expire_tokens(self) -> None:
        """Makes every token issued so far expire."""
        self.control("POST", "/tokens/expire")

    def grant(self, service: str, roles: Sequence[str]) -> None:
        """Replaces the roles of the program's client for `service` until the next reset; all tokens expire."""
        self.control("PUT", "/roles", {"service": service, "roles": list(roles)})

    def publish(
        self,
        event_type: str,
        additional_information: dict[str, object] | None = None,
        prisoner_id: str | None = None,
        occurred_at: datetime | None = None,
        copies: int = 1,
    ) -> dict[str, Any]:
        """Publishes an event `copies` times, and returns the event once all copies have been published."""
        body = {
            "eventType": event_type,
            "additionalInformation": additional_information,
            "prisonerId": prisoner_id,
            "occurredAt": None if occurred_at is None else occurred_at.isoformat(),
            "copies": copies,
        }
        return dict(self.control("POST", "/publish", body)["event"])

    def traffic(
        self, events: int = 500, seed: int = 1, queues: Sequence[str] | None = None, **more: object
    ) -> dict[str, Any]:
        """Changes records in the publishing services and publishes events about them.

        Once all events are published, returns what was planned, and the number of messages sent as `sent`.

        Args:
            events: the number of events in the ordinary sequences.
            seed: the seed of all random choices.
            queues: the ids of the queues that receive traffic, by default all. The queues must exist.
            **more: what else to plant (`sandbox.traffic.plan.TrafficRequest`): `duplicates`, `out_of_order`, `chains`,
                `malformed`, `refused`, `vanished` and `unknown`; also `queue_names`, if queues have unusual names.

        Raises:
            SandboxError: the parameters cannot be used, or publishing failed.
        """
        asked = {"events": events, "seed": seed, "queues": None if queues is None else list(queues), **more}
        planned = dict(self.control("POST", "/traffic", asked))
        progress = self.control("GET", "/traffic?wait=true")
        if progress["error"] is not None:
            raise SandboxError(f"publishing traffic failed after {progress['sent']} messages: {progress['error']}")
        return {**planned, "sent": progress["sent"]}

    def verify(self) -> dict[str, Any]:
        """Compares NOMIS and the mappings with the published records.

        Returns `entities`, `by_domain`, `problems` and `surplus`, as described in `sandbox.domains.verify`.
        """
        return dict(self.control("GET", "/verify"))

    def put(self, kind: str, **fields: object) -> dict[str, Any]:
        """Makes a record in a publishing service, or changes the given fields of an existing one; returns the record.

        `kind` is `visit`, identified by `reference`; `activity`, `schedule`, `instance`, `allocation`, `attendance`,
        `appointment` or `adjustment`, each identified by `id`; `level`, identified by `code`; or `prison-level`,
        identified by `prison_id` and `code`. `fields` are those of the classes in `sandbox.dps` and
        `sandbox.population.levels`; dates and times are ISO text.

        Raises:
            SandboxError: the kind is unknown, or fields are missing or wrong; the text of the error says which.
        """
        return dict(self.control("POST", f"/entities/{kind}", fields))

    def entities(self, kind: str) -> list[dict[str, Any]]:
        """Returns the records of one kind (see `put`) in their publishing service."""
        return list(self.control("GET", f"/entities/{kind}"))

    def drop(self, kind: str, dps_id: int | str) -> None:
        """Removes a record from its publishing service, which then responds with 404 to requests for that record."""
        self.control("DELETE", f"/entities/{kind}/{quote(str(dps_id))}")

    def nomis(self, kind: str) -> list[dict[str, Any]]:
        """Returns the NOMIS records of one kind, such as `visit`, `incentive`, `course` or `allocation`."""
        return list(self.control("GET", f"/nomis/{kind}"))

    def mappings(self, domain: str) -> list[dict[str, Any]]:
        """Returns the mappings of a domain, such as `visits`."""
        return list(self.control("GET", f"/mappings/{domain}"))

    def add_review(self, offender_no: str, iep_code: str, publish: bool = True, **more: object) -> int:
        """Makes a review in DPS, publishes its event if `publish` is true, and returns the id of the review.

        `more` may contain `at`, `prisonId`, `comments` and `reason`.
        """
        return int(
            self.control(
                "POST", "/reviews", {"offenderNo": offender_no, "iepCode": iep_code, "publish": publish, **more}
            )["id"]
        )

    def delete_nomis_incentive(self, booking_id: int, sequence: int) -> bool:
        """Deletes an IEP record, as only NOMIS support can; returns whether the record existed."""
        return bool(self.control("DELETE", f"/nomis/incentives/{booking_id}/{sequence}")["deleted"])

    def release(self, offender_no: str) -> None:
        """Releases a prisoner, whose booking is then no longer listed as active."""
        self.control("POST", f"/prisoners/{quote(offender_no)}/release")

    def receive(self, prison_id: str | None = None) -> dict[str, Any]:
        """Receives a new prisoner at `prison_id`, or at any prison if it is None, and returns that prisoner."""
        return dict(self.control("POST", "/prisoners", {"prisonId": prison_id}))

    def transfer(self, offender_no: str, prison_id: str, publish: bool = True) -> dict[str, Any]:
        """Moves a prisoner to another prison; if `publish` is false, DPS does not learn of the move."""
        return dict(
            self.control(
                "POST", f"/prisoners/{quote(offender_no)}/transfer", {"prisonId": prison_id, "publish": publish}
            )
        )

    def control(self, method: str, path: str, body: object | None = None) -> Any:
        """Calls the control API.

        Raises:
            SandboxError: the API refused the call; the text says why.
        """
        return _call(self.url("control"), method, path, body)


def _world_options(prisoners: int, seed: int, options: dict[str, object]) -> dict[str, object]:
    dated = {name: value.isoformat() if isinstance(value, date) else value for name, value in options.items()}
    return {"prisoners": prisoners, "seed": seed, **dated}


def _asking(path: str, service: str | None) -> str:
    return path if service is None else f"{path}?{urlencode({'service': service})}"


def _call(base: str, method: str, path: str, body: object | None) -> Any:
    connection = http.client.HTTPConnection(base.removeprefix("http://"), timeout=SECONDS_TO_ANSWER)
    try:
        connection.request(
            method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if response.status >= 400:
        raise SandboxError(
            f"{method} {path} of the sandbox was refused with {response.status}: {content.decode('utf-8', 'replace')}"
        )
    return json.loads(content) if content else None
