"""What NOMIS must hold for the reviews and levels of the incentives API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.nomis.incentives import BY_API, IepRecord
from sandbox.verification import discrepancies
from sandbox.verification.discrepancies import Discrepancies

if TYPE_CHECKING:
    from sandbox.dps.incentives import Review
    from sandbox.world import World


def verify(world: World, found: Discrepancies) -> None:
    """Checks the published reviews and levels, and lists the unmapped IEP records made since the world started."""
    unmapped = _unmapped(world)
    for entity in world.published.of("incentive"):
        found.count("incentive")
        review = world.incentives.reviews.get(int(entity.dps_id))
        if review is not None:
            _verify_review(world, found, review, unmapped)
    for record, review_id in unmapped.values():
        found.unmapped_record("incentive", review_id, booking_id=record.booking_id, sequence=record.sequence)
    _verify_levels(world, found)
    _verify_prison_levels(world, found)


def _unmapped(world: World) -> dict[tuple[int, int], tuple[IepRecord, int | None]]:
    """The unmapped records made through the API since the world started, each with the id of its review if known."""
    mapped = {row.nomis_id for row in world.mapping.rows("incentives")}
    reviews: dict[tuple[object, ...], int] = {}
    for entity in world.published.of("incentive"):
        review = world.incentives.reviews.get(int(entity.dps_id))
        if review is not None:
            reviews[review.booking_id, review.code, review.at.replace(microsecond=0), review.prison_id] = review.id
    return {
        (record.booking_id, record.sequence): (
            record,
            reviews.get((record.booking_id, record.level, record.at, record.prison_id)),
        )
        for records in world.nomis_incentives.records.values()
        for record in records
        if record.module == BY_API
        and record.created >= world.started
        and (record.booking_id, record.sequence) not in mapped
    }


def _verify_review(
    world: World, found: Discrepancies, review: Review, unmapped: dict[tuple[int, int], tuple[IepRecord, int | None]]
) -> None:
    own = [key for key, (_, review_id) in unmapped.items() if review_id == review.id]
    mapped = world.mapping.nomis_id("incentives", review.id)
    if mapped is None:
        found.add(
            "incentive",
            review.id,
            discrepancies.UNMAPPED if own else discrepancies.MISSING,
            booking_id=review.booking_id,
        )
        return
    if own:
        found.add("incentive", review.id, discrepancies.DUPLICATE, records=own)
    record = world.nomis_incentives.record(int(mapped[0]), int(mapped[1]))
    if record is None or mapped[0] != review.booking_id:
        found.add("incentive", review.id, discrepancies.WRONGLY_MAPPED, mapped_to=list(mapped))
        return
    expected = {
        "level": review.code,
        "at": review.at.replace(microsecond=0),
        "prison_id": review.prison_id,
        "user_id": review.user_id,
        "comment": discrepancies.held(review.comments, discrepancies.COMMENT_BYTES),
    }
    found.compare("incentive", review.id, expected, _held(record))


def _held(record: IepRecord) -> dict[str, object]:
    return {
        "level": record.level,
        "at": record.at,
        "prison_id": record.prison_id,
        "user_id": record.user_id,
        "comment": record.comment,
    }


def _verify_levels(world: World, found: Discrepancies) -> None:
    codes = world.nomis_incentives.codes
    for entity in world.published.of("level"):
        found.count("level")
        level = world.incentives.levels.get(str(entity.dps_id))
        held = codes.get(str(entity.dps_id))
        if level is None:
            continue
        if held is None:
            found.add("level", level.code, discrepancies.MISSING)
            continue
        expected = {"description": level.name, "active": level.active}
        found.compare("level", level.code, expected, {"description": held.description, "active": held.active})
    for _ in world.published.of("level-order"):
        found.count("level-order")
        wanted = [level.code for level in world.incentives.ordered_levels() if level.code in codes]
        held_order = sorted(wanted, key=lambda code: codes[code].sequence)
        found.compare("level-order", "all", {"codes": wanted}, {"codes": held_order})


def _verify_prison_levels(world: World, found: Discrepancies) -> None:
    for entity in world.published.of("prison-level"):
        found.count("prison-level")
        prison_id, _, code = str(entity.dps_id).partition(":")
        level = world.incentives.prison_levels.get((prison_id, code))
        held = world.nomis_incentives.prison_levels.get((prison_id, code))
        if level is None:
            continue
        if held is None:
            found.add("prison-level", entity.dps_id, discrepancies.MISSING)
            continue
        names = (
            "active",
            "default_on_admission",
            "remand_transfer",
            "remand_spend",
            "convicted_transfer",
            "convicted_spend",
            "visit_orders",
            "privileged_visit_orders",
        )
        expected = {name: getattr(level, name) for name in names}
        found.compare("prison-level", entity.dps_id, expected, {name: getattr(held, name) for name in names})
