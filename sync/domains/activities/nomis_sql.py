"""SQL that finds rows of activities in the NOMIS database, for people to paste: no service lists them."""

_OPEN_ALLOCATIONS = (
    "SELECT OFF_PRGREF_ID, CRS_ACTY_ID, OFFENDER_PROGRAM_STATUS FROM OMS_OWNER.OFFENDER_PROGRAM_PROFILES "
    "WHERE OFFENDER_BOOK_ID = {} AND OFFENDER_PROGRAM_STATUS = 'ALLOC';"
)


def open_allocations(booking_id: int) -> str:
    """The open allocations of a booking, with the number by which one is ended or deleted."""
    return _OPEN_ALLOCATIONS.format(int(booking_id))
