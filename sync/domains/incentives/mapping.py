"""The mappings of incentive reviews to IEP records."""

from sync.upstream.mappings import Mappings
from sync.upstream.responses import RecordNumber, Response


class _Mapping(Response):
    incentive_id: RecordNumber
    nomis_booking_id: RecordNumber
    nomis_incentive_sequence: RecordNumber


MAPPINGS = Mappings(
    path="/mapping/incentives",
    model=_Mapping,
    dps="incentiveId",
    nomis=("nomisBookingId", "nomisIncentiveSequence"),
    by_dps="incentive-id/{incentiveId}",
    by_nomis="nomis-booking-id/{nomisBookingId}/nomis-incentive-sequence/{nomisIncentiveSequence}",
)
