"""Appointments."""

from sync.domains.appointments.repair import ADVICE, REPAIR, RESYNCS
from sync.domains.appointments.rules import CREATION, UPDATES
from sync.domains.declaration import Domain
from sync.settings.upstreams import UpstreamName

DOMAIN = Domain(
    name="appointments",
    noun="appointment",
    publisher=UpstreamName.APPOINTMENTS,
    creation=CREATION,
    updates=UPDATES,
    repair=REPAIR,
    resyncs=RESYNCS,
    advice=ADVICE,
)
