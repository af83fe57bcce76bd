"""The reference codes of NOMIS that its services check requests against."""

# ruff: noqa: SIM905 - the codes read better as words than as columns of literals
from __future__ import annotations

from typing import Final

ATTENDANCE_OUTCOMES: Final = frozenset("ACCAB ATT CANC COURT NREQ REST UNACAB UNBEH SUS ABS".split())
EVENT_STATUSES: Final = frozenset("SCH COMP CANC EXP AA ABS APP ATT CONF DEL DEN FTA PEN PENDING UA".split())
PAY_BANDS: Final = frozenset(str(band) for band in range(1, 11))
ALLOCATION_END_REASONS: Final = frozenset(
    "PRG_END OTH REL TRF C_END CASE_CLOSE DIED JOBCH PERS REM SECDEC UNATT UNBEH UNDSTA WDRAWN".split()
)
VISIT_OUTCOMES: Final = frozenset("ADMIN HMP NO_ID NO_VO NSHOW OFFCANC REFUSED VISCANC VO_CANCEL".split())
VISIT_TYPES: Final = {"SCON": "Social Contact", "OFFI": "Official Visit"}
VISIT_STATUSES: Final = {
    "SCH": "Scheduled",
    "CANC": "Cancelled",
    "NORM": "Normal Completion",
    "EXP": "Expired",
    "HMPOP": "Terminated By Staff",
    "OFFEND": "Offender Completed Early",
    "VISITOR": "Visitor Completed Early",
    "VDE": "Visitor Declined Entry",
}
APPOINTMENT_SUBTYPES: Final = frozenset(
    (
        "ACTI CABA CABE CACA CAHO CALA CANT CAOT CAPR CHAP CSS EDUC GOVE IMB IMM IND JCP KWS LACO LIBR MED MEDE MEDO "
        "MEOP MEOT MEPS MEXR OIC OMU OTHE PA PRM PROG_SESS REOT REPH REPR RES ROTL RST SBD SCH_REASON SOTP TSP USV "
        "VISIT"
    ).split()
)
SENTENCE_ADJUSTMENT_TYPES: Final = {
    "RX": "Remand",
    "RSR": "Recall Sentence Remand",
    "UR": "Unused Remand",
    "S240A": "Tagged Bail",
    "RST": "Recall Sentence Tagged Bail",
}
#: Known to NOMIS since January 2025.
NEWER_SENTENCE_ADJUSTMENT_TYPES: Final = {
    "TCA": "Time Spent in Custody Abroad",
    "TSA": "Time Spent as an Appeal Applicant",
}
KEY_DATE_ADJUSTMENT_TYPES: Final = {
    "ADA": "Additional Days Awarded",
    "UAL": "Unlawfully at Large",
    "LAL": "Lawfully at Large",
    "RADA": "Restoration of Additional Days Awarded",
    "SREM": "Special Remission",
}
PROGRAMS: Final = (
    "SAA_EDUCATION",
    "SAA_INDUSTRIES",
    "SAA_PRISON_JOBS",
    "SAA_GYM_SPORTS_FITNESS",
    "SAA_INDUCTION",
    "SAA_INTERVENTIONS",
    "SAA_FAITH_SPIRITUALITY",
    "SAA_NOT_IN_WORK",
    "SAA_OTHER",
)
