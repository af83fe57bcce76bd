"""Which prisons use the new services: the rollout plan of the activities API, and the agency switches of NOMIS."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sandbox.hmpps.auth import NOMIS_SYNCHRONISATION
from sandbox.http.serving import Refused, Reply, Request, Route
from sandbox.nomis.bodies import not_found
from sandbox.population.people import ALWAYS_OPEN

if TYPE_CHECKING:
    from sandbox.population.people import Prison
    from sandbox.world import World

ACTIVITY, VISIT_ALLOCATION = "ACTIVITY", "VISIT_ALLOCATION"
#: A row of an agency switch with this agency means every prison.
EVERY_PRISON: Final = "*ALL*"
#: How many of the open prisons have no activities, and how many of those have no appointments either.
WITHOUT_ACTIVITIES, WITHOUT_APPOINTMENTS = 13, 8
#: The role that some endpoints require, and the month since which those of allocations and attendances require it.
ADMINISTRATOR: Final = "ACTIVITY_ADMIN"
ROLES_SINCE: Final = "2024-01"
MOST_DAYS_TO_EXPIRY: Final = 21
#: A field from a later version of a service, so that responses have a field that no client expects.
NEW_FIELD: Final = {"addedLater": True}


@dataclass(slots=True)
class Rollout:
    """The prisons that have activities in DPS, and those that have appointments there.

    `switches` has, for each service, the agencies for which it is switched on in NOMIS.
    """

    activities: set[str]
    appointments: set[str]
    switches: dict[str, list[str]] = field(default_factory=dict)

    def is_on(self, service: str, agency: str) -> bool:
        """Whether a service is switched on for an agency in NOMIS."""
        agencies = self.switches.get(service, [])
        return agency in agencies or EVERY_PRISON in agencies


def make_rollout(prisons: Iterable[Prison], chance: random.Random) -> Rollout:
    """Rolls activities and appointments out to nearly all open prisons or, if only a few are open, to most of them.

    In NOMIS, activities are switched on for the prisons that have them in DPS, and visit allocations for every prison.
    """
    open_prisons = [prison.code for prison in prisons if prison.open]
    others = [code for code in open_prisons if code not in ALWAYS_OPEN]
    late = chance.sample(others, min(WITHOUT_ACTIVITIES, len(others) // 2))
    activities = set(open_prisons) - set(late)
    appointments = set(open_prisons) - set(late[: min(WITHOUT_APPOINTMENTS, len(late) - 1)])
    listed = sorted(activities)
    chance.shuffle(listed)
    return Rollout(activities, appointments, {ACTIVITY: listed, VISIT_ALLOCATION: [EVERY_PRISON]})


def nomis_routes(world: World) -> list[Route]:
    """The endpoints of the agency switches, and the older endpoint that they replaced."""
    rollout = world.rollout

    def rows(code: str, name_of_id: str) -> list[dict[str, object]]:
        if code not in rollout.switches:
            raise not_found(f"Service code {code} does not exist")
        return [{name_of_id: agency, "name": f"{agency} (HMP)", **NEW_FIELD} for agency in rollout.switches[code]]

    def agencies(request: Request, code: str) -> Reply:
        return Reply(body=rows(code, "agencyId"))

    def service_prisons(request: Request, code: str) -> Reply:
        return Reply(body=rows(code, "prisonId"))

    def agency(request: Request, code: str, agency_id: str) -> Reply:
        if not rollout.is_on(code, agency_id):
            raise not_found(f"Service {code} not turned on for agency {agency_id}")
        return Reply(204)

    def prisoner(request: Request, code: str, prison_number: str) -> Reply:
        found = world.active_booking(prison_number)
        if found is None:
            raise not_found(f"No agency found for prisoner {prison_number}")
        return agency(request, code, found.prison_id)

    path, role, since = "/agency-switches/{code}", NOMIS_SYNCHRONISATION, "2025-06"
    return [
        Route("GET", path, agencies, role, since=since),
        Route("GET", f"{path}/agency/{{agency_id}}", agency, role, since=since),
        Route("GET", f"{path}/prisoner/{{prison_number}}", prisoner, role, since=since),
        Route("GET", "/service-prisons/{code}", service_prisons, role, since="2023-10", until=since),
    ]


def activities_routes(world: World) -> list[Route]:
    """The endpoints of the rollout plan, for all prisons (or only the live ones) and for a single prison."""
    rollout = world.rollout
    with_dates = world.options.month < "2024-11"

    def plan(code: str) -> dict[str, object]:
        has = {"activities": code in rollout.activities, "appointments": code in rollout.appointments}
        body: dict[str, object] = {"prisonCode": code}
        for what, on in has.items():
            body[f"{what}RolledOut"] = on
            if with_dates:
                body[f"{what}RolloutDate"] = "2022-12-22" if on else None
        if not with_dates:
            body |= {"externalActivitiesRolledOut": False, "maxDaysToExpiry": MOST_DAYS_TO_EXPIRY}
            body["prisonLive"] = any(has.values())
        return {**body, **NEW_FIELD}

    def every(request: Request) -> Reply:
        plans = [plan(code) for code in sorted(world.prisons)]
        live_only = request.first("prisonsLive", "false") == "true"
        return Reply(body=[each for each in plans if each["prisonLive"] or not live_only])

    def one(request: Request, code: str) -> Reply:
        if code not in world.prisons:
            raise Refused(404, f"Not found: Prison {code} not found")
        return Reply(body=plan(code))

    return [
        Route("GET", "/rollout", every, ADMINISTRATOR, since="2024-11"),
        Route("GET", "/rollout/{code}", one, ADMINISTRATOR),
    ]
