"""Appointments, for which the activities API has a separate address.

What is special about them:

- NOMIS refuses an appointment without a location, such as one in a cell.
- After an unknown outcome, an appointment is searched for by booking, location, start and type. Several appointments
  may look alike.
- An event that changes, cancels or deletes an appointment is ignored if neither DPS nor the mapping service has the
  appointment.
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
