"""The codes of incentive levels in their order, of the modules of NOMIS that make records, and of reviews in DPS."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The levels from the lowest to the highest, as NOMIS orders them.
LEVELS: Mapping[str, str] = {
    "BAS": "Basic",
    "ENT": "Entry",
    "STD": "Standard",
    "ENH": "Enhanced",
    "EN2": "Enhanced 2",
    "EN3": "Enhanced 3",
}
#: What made a record: the audit module in NOMIS, or the kind of the review in DPS.
ORIGINS: Mapping[str, str] = {
    "JDBC Thin Client": "NOMIS record written by this synchronisation or another service",
    "OIDOIEPS": "NOMIS record made by a user on the incentive screen",
    "OIDITRAN": "NOMIS record made by NOMIS itself on a transfer",
    "OIDADMIS": "NOMIS record made by NOMIS itself on an admission",
    "MERGE": "NOMIS record made by the merge of two prisoners",
    "OSIOSEAR": "NOMIS record made by another part of NOMIS",
    "OCUWARNG": "NOMIS record made by another part of NOMIS",
    "PRISON_API": "NOMIS record made through the prison API",
    "REVIEW": "DPS review made by staff",
    "INITIAL": "DPS review made by DPS itself on a new admission",
    "READMISSION": "DPS review made by DPS itself on a readmission",
    "TRANSFER": "DPS review made by DPS itself on a transfer",
    "MIGRATED": "DPS review copied from NOMIS when DPS took over",
}
