"""The endpoints of the incentives API and how its records look as JSON."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

from sandbox.dps.incentives import SYSTEM_USER, Incentives, Review
from sandbox.http.paging import flag
from sandbox.http.serving import Refused, Reply, Request, Route
from sandbox.population.levels import Level, PrisonLevel

if TYPE_CHECKING:
    from sandbox.world import World


def routes(world: World) -> list[Route]:
    """Return the endpoints of reviews and levels; any valid token will do."""
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
                400, "Validation failure: Couldn't read request body: JSON parse error: an array of numbers is wanted"
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
    if not text.isdigit():
        raise Refused(400, f"Validation failure: Failed to convert value '{text}' to type long")
    return int(text)


def _detail_view(state: Incentives, review: Review) -> dict[str, object]:
    """Return one review in full; null fields are left out."""
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
    """Return the summary of a person or booking, from its reviews (at least one)."""
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
    """Return when the next review is due: a week on Basic, else a year."""
    return review.at.date() + timedelta(days=7 if review.code == "BAS" else 365)


def _missing(what: str) -> Refused:
    """Return what the service answers when something does not exist: status 404 and the reason."""
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
