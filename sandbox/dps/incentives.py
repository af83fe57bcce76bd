"""The incentives API: its reviews, levels and prison levels, and what it does when a prisoner is received."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from sandbox.aws.topic import domain_event
from sandbox.clock import london_now
from sandbox.http.paging import flag
from sandbox.http.serving import Refused, Reply, Request, Route
from sandbox.population import levels
from sandbox.population.levels import Level, PrisonLevel

if TYPE_CHECKING:
    from sandbox.world import World

SYSTEM_USER = "INCENTIVES_API"
FIRST_REVIEW_ID = 700_000
ON_ARRIVAL = "Default level assigned on arrival"
TRANSFERRED = "Level transferred from previous establishment"
REVIEW_OF_REASON = {"NEW_ADMISSION": "INITIAL", "READMISSION": "READMISSION", "TRANSFERRED": "TRANSFER"}
UNMAPPED = "Unmapped"


@dataclass(slots=True)
class Review:
    """One review.

    The `current` flag marks the review whose level the bulk call returns. At most one review of a booking has the flag.
    """

    id: int
    code: str
    booking_id: int
    offender_no: str
    at: datetime
    prison_id: str
    review_type: str
    user_id: str | None
    comments: str | None
    current: bool = True


class Incentives:
    """All reviews by id, the reviews of each booking (lowest id first), and the levels.

    `bulk` is `on`, or, if the bulk call is withdrawn, the status with which it responds.
    """

    def __init__(self, world: World, bulk: str = "on") -> None:
        """Starts with only the global levels."""
        self.world = world
        self.bulk = bulk
        self.reviews: dict[int, Review] = {}
        self.by_booking: dict[int, list[Review]] = {}
        self.levels = levels.dps_levels()
        self.prison_levels: dict[tuple[str, str], levels.PrisonLevel] = {}
        self._next_id = FIRST_REVIEW_ID

    def current(self, booking_id: int) -> Review | None:
        """Returns a booking's latest review (by review time), or None if the booking has no reviews."""
        reviews = self.by_booking.get(booking_id)
        return max(reviews, key=lambda each: each.at) if reviews else None

    def add(
        self,
        booking_id: int,
        offender_no: str,
        code: str,
        at: datetime,
        prison_id: str,
        review_type: str = "REVIEW",
        user_id: str | None = SYSTEM_USER,
        comments: str | None = None,
    ) -> Review:
        """Adds a review, which takes the `current` flag from the booking's other reviews."""
        held = self.by_booking.setdefault(booking_id, [])
        for review in held:
            review.current = False
        self._next_id += 1
        review = Review(self._next_id, code, booking_id, offender_no, at, prison_id, review_type, user_id, comments)
        held.append(review)
        self.reviews[review.id] = review
        return review

    def delete(self, review_id: int) -> None:
        """Deletes a review, as staff can; if it had the `current` flag, the latest remaining review gets the flag."""
        review = self.reviews.pop(review_id)
        held = self.by_booking[review.booking_id]
        held.remove(review)
        if not held:
            del self.by_booking[review.booking_id]
        elif review.current:
            max(held, key=lambda each: each.at).current = True

    def add_review(
        self,
        booking_id: int,
        code: str,
        at: datetime | None = None,
        prison_id: str | None = None,
        user_id: str | None = "AB12345_GEN",
        comments: str | None = None,
        review_type: str = "REVIEW",
    ) -> Review:
        """Makes a review for a booking of the population, by default as a member of staff would.

        Publishing the event is left to the caller.
        """
        prisoner = self.world.by_booking[booking_id]
        return self.add(
            booking_id,
            prisoner.offender_no,
            code,
            at or london_now(),
            prison_id or prisoner.prison_id,
            review_type,
            user_id,
            comments,
        )

    def inserted(self, review: Review, reason: str | None = None) -> dict[str, object]:
        """Returns the event for a new review."""
        information: dict[str, object] = {"id": review.id, "nomsNumber": review.offender_no, "reason": reason}
        return domain_event("incentives.iep-review.inserted", information)

    def received(self, offender_no: str, reason: str, occurred_at: datetime) -> Review | None:
        """Makes the review that an arrival causes, at the prison where the person is, and returns it.

        Returns None if an arrival for this reason causes no review, or if the person is unknown.
        """
        review_type = REVIEW_OF_REASON.get(reason)
        prisoner = self.world.by_offender.get(offender_no)
        if review_type is None or prisoner is None:
            return None
        arrived = review_type == "TRANSFER"
        code = (
            self.transferred_level(offender_no, prisoner.prison_id) if arrived else self.default_of(prisoner.prison_id)
        )
        comment = TRANSFERRED if arrived else ON_ARRIVAL
        return self.add_review(
            prisoner.booking_id, code, occurred_at, prisoner.prison_id, SYSTEM_USER, comment, review_type
        )

    def default_of(self, prison_id: str) -> str:
        """Returns the code of the level on admission to a prison.

        That level is the active one flagged as default. If none is, it is Standard if Standard is active or the prison
        has no active level, and otherwise the first active level.
        """
        active = self._active_levels(prison_id)
        for level in active:
            if level.default_on_admission:
                return level.code
        codes = [level.code for level in active]
        return "STD" if "STD" in codes or not codes else codes[0]

    def transferred_level(self, offender_no: str, prison_id: str) -> str:
        """Returns the code of the level after a transfer to a prison.

        That level is the level of the latest review at another prison, if the new prison uses it. Otherwise it is the
        next higher level that the new prison uses or, if there is none, the next lower one. If the person has no review
        at another prison, or the new prison uses no levels, it is the level on admission.
        """
        elsewhere = [
            review
            for review in self.reviews_of(offender_no)
            if review.prison_id != prison_id and review.code in self.levels
        ]
        if not elsewhere:
            return self.default_of(prison_id)
        kept = max(elsewhere, key=lambda each: each.at).code
        order = {level.code: level.order for level in self.levels.values()}
        there = [level.code for level in self._active_levels(prison_id)]
        if kept in there:
            return kept
        higher = [code for code in there if order[code] > order[kept]]
        lower = [code for code in there if order[code] < order[kept]]
        return higher[0] if higher else lower[-1] if lower else self.default_of(prison_id)

    def reviews_of(self, offender_no: str) -> list[Review]:
        """Returns the reviews of all of a person's bookings, newest first."""
        found = [
            review
            for booking_id in self.world.bookings_of(offender_no)
            for review in self.by_booking.get(booking_id, ())
        ]
        return sorted(found, key=lambda each: each.at, reverse=True)

    def name_of(self, code: str) -> str:
        """Returns the name of a level, or `Unmapped` if the code is unknown."""
        level = self.levels.get(code)
        return UNMAPPED if level is None else level.name

    def ordered_levels(self) -> list[levels.Level]:
        """Returns the levels in their global order, lowest first."""
        return sorted(self.levels.values(), key=lambda each: each.order)

    def _active_levels(self, prison_id: str) -> list[levels.PrisonLevel]:
        found = [self.prison_levels.get((prison_id, level.code)) for level in self.ordered_levels()]
        return [level for level in found if level is not None and level.active]


def routes(world: World) -> list[Route]:
    """Returns the endpoints for reviews and levels, all of which accept any valid token."""
    return [*_review_routes(world), *_level_routes(world)]


def _review_routes(world: World) -> list[Route]:
    state = world.incentives

    def by_id(request: Request, review_id: str) -> Reply:
        review = state.reviews.get(_number(review_id))
        if review is None:
            raise _missing(f"No Prisoner IEP Level record found for id {review_id}")
        return Reply(body=_detail_view(state, review))

    def by_booking(request: Request, booking: str) -> Reply:
        reviews = state.by_booking.get(_number(booking))
        if not reviews:
            raise _missing(f"No incentive reviews for booking ID {booking}")
        return Reply(body=_summary_view(state, reviews, flag(request, "with-details", True)))

    def by_prisoner(request: Request, offender_no: str) -> Reply:
        reviews = state.reviews_of(offender_no)
        if not reviews:
            raise _missing(f"No incentive reviews for prisoner number {offender_no}")
        return Reply(body=_summary_view(state, reviews, True))

    def bulk(request: Request) -> Reply:
        if state.bulk != "on":
            raise Refused(
                int(state.bulk), "Not Found: No handler found" if state.bulk == "404" else "Method Not Allowed"
            )
        asked = request.json()
        if not isinstance(asked, list) or not all(isinstance(each, int) for each in asked):
            raise Refused(
                400, "Validation failure: Couldn't read request body: JSON parse error: an array of numbers is required"
            )
        if not asked:
            raise Refused(400, "Validation failure: getCurrentIEPLevelForPrisoner.bookingIds: must not be empty")
        found = [
            {"bookingId": review.booking_id, "iepLevel": state.name_of(review.code)}
            for booking_id in sorted(set(asked))
            for review in state.by_booking.get(booking_id, ())
            if review.current and review.booking_id == booking_id
        ]
        return Reply(body=found)

    return [
        Route("GET", "/iep/reviews/id/{review_id}", by_id),
        Route("GET", "/iep/reviews/booking/{booking}", by_booking),
        Route("GET", "/iep/reviews/prisoner/{offender_no}", by_prisoner),
        Route("POST", "/iep/reviews/bookings", bulk),
    ]


def _level_routes(world: World) -> list[Route]:
    state = world.incentives

    def every(request: Request) -> Reply:
        inactive = flag(request, "with-inactive", False)
        return Reply(body=[_level_view(level) for level in state.ordered_levels() if level.active or inactive])

    def one(request: Request, code: str) -> Reply:
        level = state.levels.get(code)
        if level is None:
            raise _missing(f"No incentive level found for code `{code}`")
        return Reply(body=_level_view(level))

    def in_prison(request: Request, prison_id: str, code: str) -> Reply:
        level = state.prison_levels.get((prison_id, code))
        if level is None:
            raise _missing(f"No incentive level found for code `{code}` and prison `{prison_id}`")
        return Reply(body=_prison_view(level, state.name_of(code)))

    return [
        Route("GET", "/incentive/levels", every),
        Route("GET", "/incentive/levels/{code}", one),
        Route("GET", "/incentive/prison-levels/{prison_id}/level/{code}", in_prison),
    ]


def _number(text: str) -> int:
    if not text.isdecimal():
        raise Refused(400, f"Validation failure: Failed to convert value '{text}' to type long")
    return int(text)


def _detail_view(state: Incentives, review: Review) -> dict[str, object]:
    """Returns one review in full; null fields are left out."""
    body: dict[str, object] = {
        "id": review.id,
        "iepCode": review.code,
        "iepLevel": state.name_of(review.code),
        "prisonerNumber": review.offender_no,
        "bookingId": review.booking_id,
        "iepDate": review.at.date(),
        "iepTime": review.at,
        "agencyId": review.prison_id,
        "reviewType": review.review_type,
        "auditModuleName": SYSTEM_USER,
    }
    if review.comments is not None:
        body["comments"] = review.comments
    if review.user_id is not None:
        body["userId"] = review.user_id
    return body


def _summary_view(state: Incentives, reviews: list[Review], with_details: bool) -> dict[str, object]:
    """Returns the incentive summary of the person or booking to which the given reviews (at least one) belong."""
    newest = sorted(reviews, key=lambda each: each.at, reverse=True)
    current = newest[0]
    return {
        "id": current.id,
        "iepCode": current.code,
        "iepLevel": state.name_of(current.code),
        "prisonerNumber": current.offender_no,
        "bookingId": current.booking_id,
        "iepDate": current.at.date(),
        "iepTime": current.at,
        "iepDetails": [_detail_view(state, each) for each in newest] if with_details else [],
        "nextReviewDate": _next_review(current),
        "daysSinceReview": (state.world.today - current.at.date()).days,
    }


def _next_review(review: Review) -> date:
    """Returns the day on which the next review is due: a week after a review to Basic, a year after any other."""
    return review.at.date() + timedelta(days=7 if review.code == "BAS" else 365)


def _missing(what: str) -> Refused:
    """Returns the refusal with which the service responds if something does not exist: status 404 and the reason."""
    return Refused(404, f"Not Found: {what}")


def _level_view(level: Level) -> dict[str, object]:
    return {"code": level.code, "name": level.name, "active": level.active, "required": level.required}


def _prison_view(level: PrisonLevel, name: str) -> dict[str, object]:
    return {
        "levelCode": level.code,
        "levelName": name,
        "prisonId": level.prison_id,
        "active": level.active,
        "defaultOnAdmission": level.default_on_admission,
        "remandTransferLimitInPence": level.remand_transfer,
        "remandSpendLimitInPence": level.remand_spend,
        "convictedTransferLimitInPence": level.convicted_transfer,
        "convictedSpendLimitInPence": level.convicted_spend,
        "visitOrders": level.visit_orders,
        "privilegedVisitOrders": level.privileged_visit_orders,
    }
