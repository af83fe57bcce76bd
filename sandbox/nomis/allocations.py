"""Allocations of prisoners to courses in NOMIS, written by an upsert that has no unique key to rely on."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from sandbox.clock import london_today
from sandbox.http.serving import Reply, Request, Route
from sandbox.nomis.bodies import ALLOCATION_END_REASONS, PAY_BANDS, Fields, bad_request, path_number, unexpected
from sandbox.nomis.courses import COURSE, ROLE, course_or_404

if TYPE_CHECKING:
    from sandbox.world import World

NOT_UNIQUE = "query did not return a unique result: 2; nested exception is javax.persistence.NonUniqueResultException"


@dataclass(slots=True)
class BandHeld:
    """A pay band that an allocation has from a start date and, if the band changed later, until an end date."""

    band: str
    start: date
    end: date | None = None


@dataclass(slots=True)
class Allocation:
    """The allocation of one booking to one course; `stored` is when the row was stored, by `time.perf_counter`."""

    id: int
    course_id: int
    booking_id: int
    program: str
    start: date
    end: date | None
    end_reason: str | None
    comment: str | None
    suspended: bool
    status: str = "ALLOC"
    bands: list[BandHeld] = field(default_factory=list)
    stored: float = 0.0

    @property
    def band(self) -> str:
        """The latest of the pay bands that the allocation has had."""
        return self.bands[-1].band


def upsert_allocation(world: World, course_id: int, fields: Fields, arrived: float) -> tuple[Allocation, bool]:
    """Writes the allocation of a booking to a course; returns it, and whether it is new.

    Two rows with the status `ALLOC` for one booking and course make NOMIS fail with 500. If the world allows
    simultaneous upserts to make duplicates, a row that was stored after the request arrived is not seen.
    """
    booking_id = fields.number("bookingId")
    band = fields.text("payBandCode", shortest=1, longest=12)
    start, end = fields.day("startDate"), fields.optional_day("endDate")
    end_reason = fields.optional_text("endReason", longest=12)
    end_comment = fields.optional_text("endComment", longest=240)
    suspended_comment = fields.optional_text("suspendedComment", longest=240)
    suspended = fields.flag("suspended", default=False)
    _check(world, course_id, booking_id, band, end_reason)
    for name in ("endComment", "suspendedComment"):
        fields.comment(name)
    courses = world.nomis_courses
    rows = courses.allocations_of.setdefault((course_id, booking_id), [])
    seen = [
        row for row in rows if row.status == "ALLOC" and not (world.options.nomis_duplicates and row.stored > arrived)
    ]
    if len(seen) > 1:
        raise unexpected(NOT_UNIQUE)
    created = not seen
    if created:
        allocation = Allocation(
            id=next(courses.allocation_ids),
            course_id=course_id,
            booking_id=booking_id,
            program=courses.courses[course_id].program,
            start=start,
            end=None,
            end_reason=None,
            comment=None,
            suspended=False,
            bands=[BandHeld(band, start)],
            stored=time.perf_counter(),
        )
        courses.allocations[allocation.id] = allocation
        rows.append(allocation)
    else:
        allocation = seen[0]
        _change_band(allocation, band)
    allocation.end, allocation.end_reason, allocation.suspended = end, end_reason, suspended
    allocation.comment = end_comment if end is not None else suspended_comment if suspended else None
    return allocation, created


def plant_duplicate(world: World, allocation_id: int) -> Allocation:
    """Adds a second row for the booking and course of an allocation, as two simultaneous creations would."""
    courses = world.nomis_courses
    first = courses.allocations[allocation_id]
    second = Allocation(
        id=next(courses.allocation_ids),
        course_id=first.course_id,
        booking_id=first.booking_id,
        program=first.program,
        start=first.start,
        end=first.end,
        end_reason=first.end_reason,
        comment=first.comment,
        suspended=first.suspended,
        bands=[BandHeld(first.band, first.start)],
        stored=time.perf_counter(),
    )
    courses.allocations[second.id] = second
    courses.allocations_of[first.course_id, first.booking_id].append(second)
    return second


def _check(world: World, course_id: int, booking_id: int, band: str, end_reason: str | None) -> None:
    course = course_or_404(world, course_id)
    prisoner = world.by_booking.get(booking_id)
    if prisoner is None:
        raise bad_request(f"Booking with id={booking_id} does not exist")
    if prisoner.agency != course.prison_id:
        raise bad_request(f"Prisoner is at prison={prisoner.agency}, not the Course activity prison={course.prison_id}")
    if course.end is not None and course.end < london_today():
        raise bad_request(f"Course activity with id={course_id} has expired")
    if band not in PAY_BANDS:
        raise bad_request(f"Pay band code {band} does not exist")
    if band not in {held for _, held in course.open_rates()}:
        raise bad_request(f"Pay band code {band} does not exist for course activity with id={course_id}")
    if end_reason is not None and end_reason not in ALLOCATION_END_REASONS:
        raise bad_request(f"End reason code={end_reason} does not exist")


def _change_band(allocation: Allocation, band: str) -> None:
    if allocation.band == band:
        return
    today = london_today()
    allocation.bands[-1].end = today
    allocation.bands.append(BandHeld(band, today))


def routes(world: World) -> list[Route]:
    """Returns the endpoints that write and delete allocations; none reads an individual allocation."""

    def allocate(request: Request, course_id: str) -> Reply:
        number = path_number(course_id, "courseActivityId")
        allocation, created = upsert_allocation(world, number, Fields.of(request), request.arrived)
        return Reply(body={"offenderProgramReferenceId": allocation.id, "created": created})

    def delete(request: Request, number: str) -> Reply:
        world.nomis_courses.remove_allocation(path_number(number, "number"))
        return Reply(status=204)

    return [
        Route("PUT", f"{COURSE}/allocation", allocate, ROLE, writes=True),
        Route("DELETE", "/allocations/{number}", delete, ROLE, writes=True),
    ]
