"""What the mappings of each domain look like, which keys they have, and what the paths of their endpoints are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

Id: TypeAlias = int | str
Key: TypeAlias = tuple[Id, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """One field of a mapping: its JSON name, whether it is a number, its maximum length, and its allowed values."""

    name: str
    number: bool = True
    length: int | None = None
    values: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """What the mappings of one domain look like, and which endpoints they have.

    `dps` is the column with the new service's id; `nomis` has the column or columns that form the NOMIS id.
    """

    domain: str
    noun: str
    path: str
    role: str
    dps: Column
    nomis: tuple[Column, ...]
    types: frozenset[str]
    default_type: str | None = None
    dps_path: str = ""
    nomis_path: str | None = None
    deletable: bool = True
    listed: bool = False
    dated: bool = True
    labelled: bool = True
    conflicts_as_bad_request: bool = False


VISITS: Final = Shape(
    domain="visits",
    noun="Visit",
    path="/mapping/visits",
    role="NOMIS_VISITS",
    dps=Column("vsipId", number=False, length=40),
    nomis=(Column("nomisId"),),
    types=frozenset({"ONLINE", "MIGRATED"}),
    dps_path="/mapping/visits/vsipId/{dps_id}",
    nomis_path="/mapping/visits/nomisId/{nomis_1}",
    deletable=False,
)
INCENTIVES: Final = Shape(
    domain="incentives",
    noun="Incentive",
    path="/mapping/incentives",
    role="NOMIS_INCENTIVES",
    dps=Column("incentiveId"),
    nomis=(Column("nomisBookingId"), Column("nomisIncentiveSequence")),
    types=frozenset({"INCENTIVE_CREATED", "NOMIS_CREATED", "MIGRATED"}),
    dps_path="/mapping/incentives/incentive-id/{dps_id}",
    nomis_path="/mapping/incentives/nomis-booking-id/{nomis_1}/nomis-incentive-sequence/{nomis_2}",
)
ACTIVITIES: Final = Shape(
    domain="activities",
    noun="Activity",
    path="/mapping/activities",
    role="NOMIS_ACTIVITIES",
    dps=Column("activityScheduleId"),
    nomis=(Column("nomisCourseActivityId"),),
    types=frozenset({"ACTIVITY_CREATED", "NOMIS_CREATED"}),
    dps_path="/mapping/activities/activity-schedule-id/{dps_id}",
    listed=True,
    dated=False,
    labelled=False,
    conflicts_as_bad_request=True,
)
APPOINTMENTS: Final = Shape(
    domain="appointments",
    noun="Appointment",
    path="/mapping/appointments",
    role="NOMIS_APPOINTMENTS",
    dps=Column("appointmentInstanceId"),
    nomis=(Column("nomisEventId"),),
    types=frozenset({"APPOINTMENT_CREATED", "MIGRATED"}),
    default_type="APPOINTMENT_CREATED",
    dps_path="/mapping/appointments/appointment-instance-id/{dps_id}",
    nomis_path="/mapping/appointments/nomis-event-id/{nomis_1}",
    listed=True,
)
ADJUSTMENTS: Final = Shape(
    domain="adjustments",
    noun="Sentence adjustment",
    path="/mapping/sentencing/adjustments",
    role="NOMIS_SENTENCING",
    dps=Column("adjustmentId", number=False, length=64),
    nomis=(
        Column("nomisAdjustmentId"),
        Column("nomisAdjustmentCategory", number=False, values=frozenset({"SENTENCE", "KEY-DATE"})),
    ),
    types=frozenset({"SENTENCING_CREATED", "NOMIS_CREATED", "MIGRATED"}),
    dps_path="/mapping/sentencing/adjustments/adjustment-id/{dps_id}",
    nomis_path="/mapping/sentencing/adjustments/nomis-adjustment-category/{nomis_2}/nomis-adjustment-id/{nomis_1}",
)
