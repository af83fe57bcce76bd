"""Appointments, for which the activities API has a separate address.

What is special about them:

- NOMIS refuses an appointment without a location, such as one in a cell.
- After an unknown outcome an appointment is found by booking, location and start. Several appointments may look alike.
- An event about an appointment that is gone from DPS and from the mapping service is ignored.
"""

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
