"""Visits on both sides, and a comparison of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import pytest

from reports.engine.units import Scope
from reports.reconciliations.visits.reconciliation import Visits
from reports.reconciliations.visits.result import VisitResult
from sandbox import Sandbox
from sync import clock
from sync.settings.loading import load_settings
from sync.upstream.services import Services
from tests.harness.comparisons import Compared, compare
from tests.harness.reads import PlainReads
from tests.harness.sandboxes import Caller

TODAY = clock.london_now().date()
PRISON = "HEI"
OLD_COMMENT, NEW_COMMENT = "Created by Book A Prison Visit. Reference: {}", "DPS booking reference: {}"
FIRST, SECOND = 4_700_001, 4_700_002


def ago(**much: float) -> str:
    """The London date and time of `timedelta(**much)` ago, without an offset."""
    return (clock.london_now() - timedelta(**much)).replace(tzinfo=None).isoformat()


@dataclass
class VisitSetup:
    """The sandbox, the services and the settings of a comparison."""

    sandbox: Sandbox
    caller: Caller
    services: Services
    environment: dict[str, str]
    prisoner: dict[str, Any] = field(default_factory=dict)

    def reset(self, **options: Any) -> None:
        """Makes a new world in the sandbox, by default with 20 prisoners. `prisoner` is the first of them."""
        self.sandbox.reset(**{"prisoners": 20, **options})
        self.prisoner = self.sandbox.prisoners()[0]

    def book(self, reference: str, day: date, hours: tuple[int, int] = (10, 11), **changes: Any) -> None:
        """Books a visit. It counts as created ten days ago unless `created` says otherwise."""
        start, end = (f"{day.isoformat()}T{hour:02}:00:00" for hour in hours)
        values = {
            "prisoner_id": self.prisoner["offenderNo"],
            "prison_id": PRISON,
            "room": "Visits Main Hall",
            "start": start,
            "end": end,
            "person_ids": [FIRST],
            "created": ago(days=10),
            **changes,
        }
        self.sandbox.put("visit", reference=reference, **values)

    def write(self, reference: str, comment: str = NEW_COMMENT, *, mapped: bool = True, **changes: Any) -> int:
        """Writes a booked visit to NOMIS, and makes `changes` to it there. Returns its NOMIS id.

        If `mapped`, the visit is also mapped to that id.
        """
        (booked,) = (each for each in self.sandbox.entities("visit") if each["reference"] == reference)
        body = {
            "startDateTime": booked["start"],
            "endTime": booked["end"].partition("T")[2],
            "prisonId": booked["prison_id"],
            "visitorPersonIds": booked["person_ids"],
            "visitType": "SCON",
            "issueDate": TODAY.isoformat(),
            "visitComment": comment.format(reference),
            "room": booked["room"],
            "openClosedStatus": booked["restriction"],
        }
        response = self.caller.call("nomis", "POST", f"/prisoners/{self.prisoner['offenderNo']}/visits", body)
        assert response.status_code == 201, response.text
        visit_id = int(response.json()["visitId"])
        if changes:
            self.sandbox.control("PUT", f"/nomis/visits/{visit_id}", changes)
        if mapped:
            mapping = {"nomisId": visit_id, "vsipId": reference, "mappingType": "ONLINE"}
            assert self.caller.call("mapping", "POST", "/mapping/visits", mapping).status_code == 201
        return visit_id

    def reconciliation(self, scope: Scope | None = None, **settings: str) -> Visits:
        """The reconciliation of visits for one run, by default with `PRISON` as its scope."""
        return Visits(self.services, load_settings({**self.environment, **settings}), scope or Scope(prisons=(PRISON,)))

    def compare(
        self,
        scope: Scope | None = None,
        reads: PlainReads | None = None,
        earlier: VisitResult | None = None,
        **settings: str,
    ) -> Compared:
        """Compares all visits in the scope. `earlier` is the result of an earlier run."""
        found = self.reconciliation(scope, **settings)
        found.earlier = earlier
        return compare(found, reads)


@pytest.fixture
def visit_setup(quiet_sandbox: Sandbox) -> Iterator[VisitSetup]:
    """The parts of a comparison of visits, in a world without planted visits."""
    environment = quiet_sandbox.environment()
    services = Services(load_settings(environment))
    made = VisitSetup(quiet_sandbox, Caller(quiet_sandbox), services, environment)
    made.reset()
    yield made
    services.close()
