"""The mappings of visits."""

from sync.upstream.bodies import Answer, RecordNumber
from sync.upstream.mappings import Mappings, TextId


class _Mapping(Answer):
    vsip_id: TextId
    nomis_id: RecordNumber


MAPPINGS = Mappings(
    path="/mapping/visits",
    model=_Mapping,
    dps="vsipId",
    nomis=("nomisId",),
    by_dps="vsipId/{vsipId}",
    by_nomis="nomisId/{nomisId}",
)
