"""The mappings of adjustments; the numbers of NOMIS's two families overlap, so the family is part of the id."""

from typing import Literal

from sync.upstream.mappings import Mappings, TextId
from sync.upstream.responses import RecordNumber, Response


class _Mapping(Response):
    adjustment_id: TextId
    nomis_adjustment_id: RecordNumber
    nomis_adjustment_category: Literal["SENTENCE", "KEY-DATE"]


MAPPINGS = Mappings(
    path="/mapping/sentencing/adjustments",
    model=_Mapping,
    dps="adjustmentId",
    nomis=("nomisAdjustmentId", "nomisAdjustmentCategory"),
    by_dps="adjustment-id/{adjustmentId}",
    by_nomis="nomis-adjustment-category/{nomisAdjustmentCategory}/nomis-adjustment-id/{nomisAdjustmentId}",
)
