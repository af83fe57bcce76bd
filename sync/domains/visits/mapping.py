"""The mappings of visits."""

from sync.upstream.mappings import Mappings, TextId
from sync.upstream.responses import RecordNumber, Response


class _Mapping(Response):
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
