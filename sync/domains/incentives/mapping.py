"""The mappings of incentive reviews to IEP records."""

from sync.upstream.bodies import Answer, RecordNumber
from sync.upstream.mappings import Mappings


class _Mapping(Answer):
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
