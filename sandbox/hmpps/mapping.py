"""The mapping service: which NOMIS record belongs to which record of the new services.

Every domain has one table with two unique keys: the id in the new service and the id in NOMIS. A pair may be posted
again; a post of a different pair that has one of its ids is a conflict.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from sandbox.clock import london_now
from sandbox.domains import DOMAINS, Domain
from sandbox.hmpps.auth import MAPPING_SYNCHRONISATION
from sandbox.hmpps.mapping_shapes import Column, Id, Key, Shape
from sandbox.http.serving import Refused, Reply, Request, Route

if TYPE_CHECKING:
    from sandbox.world import World

CONFLICT_CODE: Final = 1409
LABEL_LENGTH: Final = 20


@dataclass(slots=True)
class Row:
    """One pair of ids.

    `posted_at` is the time at which the pair was posted (by `time.perf_counter`), or 0 if it was stored without a post.
    `raced` says whether a post has already lost a race against this row.
    """

    dps_id: Id
    nomis_id: Key
    mapping_type: str
    label: str | None
    created: datetime | None
    posted_at: float = 0.0
    raced: bool = False


@dataclass(slots=True)
class Table:
    """The pairs of one domain, indexed by both unique keys."""

    shape: Shape
    by_dps: dict[Id, Row] = field(default_factory=dict)
    by_nomis: dict[Key, Row] = field(default_factory=dict)

    def insert(self, row: Row) -> None:
        """Stores a pair; the caller makes sure that neither id is taken."""
        self.by_dps[row.dps_id] = row
        self.by_nomis[row.nomis_id] = row

    def delete(self, dps_id: Id) -> None:
        """Deletes the pair with this DPS id; does nothing if the id is unknown."""
        row = self.by_dps.pop(dps_id, None)
        if row is not None:
            del self.by_nomis[row.nomis_id]

    def object_of(self, row: Row, *, stored: bool = True) -> dict[str, object]:
        """Returns the mapping as JSON, without null fields; a mapping that is not `stored` yet has no creation time."""
        body: dict[str, object] = {
            column.name: value for column, value in zip(self.shape.nomis, row.nomis_id, strict=True)
        }
        body[self.shape.dps.name] = row.dps_id
        if self.shape.labelled and row.label is not None:
            body["label"] = row.label
        body["mappingType"] = row.mapping_type
        if stored and self.shape.dated and row.created is not None:
            body["whenCreated"] = row.created.isoformat(timespec="milliseconds")
        return body


class MappingState:
    """All tables of the mapping service.

    A post may collide with a row that was stored only after the post had arrived. The post would have passed the real
    service's check, and the database constraint would have refused it; it is therefore refused with 500. If `race_ms`
    is above 0, this also happens to a post that arrives less than `race_ms` milliseconds after the row was posted,
    unless the row has already made a post fail.

    `duplicates` has the domains whose next record is created twice: when the record's mapping is posted, another
    installation has already created a copy of the record, and has posted the mapping of that copy.
    """

    def __init__(self, race_ms: float = 0) -> None:
        """Starts with empty tables."""
        self.race_ms = race_ms
        self.duplicates: set[str] = set()
        self.tables = {domain.mapping.domain: Table(domain.mapping) for domain in DOMAINS}

    def add(self, domain: str, dps_id: Id, nomis_id: Key, mapping_type: str, created: datetime | None = None) -> None:
        """Stores a pair without a post, as is done with the pairs that the world begins with."""
        self.tables[domain].insert(Row(dps_id, nomis_id, mapping_type, None, created))

    def add_incentive(self, incentive_id: int, booking_id: int, sequence: int, mapping_type: str) -> None:
        """Stores the mapping of an incentive review without a post, as `add` does with any pair."""
        self.tables["incentives"].insert(Row(incentive_id, (booking_id, sequence), mapping_type, None, None))

    def incentive_sequence(self, incentive_id: int) -> int | None:
        """The NOMIS sequence that a review is mapped to, or None if it is not mapped."""
        row = self.tables["incentives"].by_dps.get(incentive_id)
        return None if row is None else int(row.nomis_id[1])

    def nomis_id(self, domain: str, dps_id: Id) -> Key | None:
        """The NOMIS id that a DPS id is mapped to, or None if it is not mapped."""
        row = self.tables[domain].by_dps.get(dps_id)
        return None if row is None else row.nomis_id

    def rows(self, domain: str) -> Iterator[Row]:
        """Returns all pairs of a domain, in the order in which they were stored."""
        return iter(self.tables[domain].by_dps.values())


def routes(world: World) -> list[Route]:
    """Returns the endpoints of the mapping service for all domains and for locations, each with its required role."""
    made: list[Route] = []
    for domain in DOMAINS:
        made.extend(_routes_of(world, domain))

    def location(request: Request, dps_location_id: str) -> Reply:
        found = world.places.location_of_dps(dps_location_id)
        if found is None:
            raise Refused(404, f"Not Found: Location mapping with dpsLocationId {dps_location_id} not found")
        body = {"dpsLocationId": dps_location_id, "nomisLocationId": found.id, "mappingType": "LOCATION_CREATED"}
        return Reply(body=body)

    path = "/mapping/locations/dps/{dps_location_id}"
    made.append(Route("GET", path, location, MAPPING_SYNCHRONISATION, since="2024-07"))
    return made


def _routes_of(world: World, domain: Domain) -> Iterator[Route]:
    shape = domain.mapping

    def table() -> Table:
        return world.mapping.tables[shape.domain]

    yield Route("POST", shape.path, _poster(world, domain), shape.role, writes=True)
    yield Route("GET", shape.dps_path, _by_dps(table), shape.role, writes=False)
    if shape.nomis_path is not None:
        yield Route("GET", shape.nomis_path, _by_nomis(table), shape.role, writes=False)
    if shape.deletable:
        yield Route("DELETE", shape.dps_path, _deleter(table), shape.role, writes=True)
    if shape.listed:
        yield Route("GET", shape.path, _lister(table), shape.role, writes=False)


def _poster(world: World, domain: Domain) -> Callable[[Request], Reply]:
    shape = domain.mapping

    def post(request: Request) -> Reply:
        body = request.json()
        if not isinstance(body, dict):
            raise _invalid("the body must be an object")
        mapping_type = _mapping_type(shape, body)
        row = Row(
            dps_id=_value(shape.dps, body),
            nomis_id=tuple(_value(column, body) for column in shape.nomis),
            mapping_type=mapping_type,
            label=_label(body),
            created=london_now(),
            posted_at=time.perf_counter(),
        )
        table = world.mapping.tables[shape.domain]
        if row.dps_id not in table.by_dps and shape.domain in world.mapping.duplicates:
            world.mapping.duplicates.remove(shape.domain)
            world.mapping.add(shape.domain, row.dps_id, domain.plant_duplicate(world, row.nomis_id), mapping_type)
        for found in (table.by_dps.get(row.dps_id), table.by_nomis.get(row.nomis_id)):
            if found is None:
                continue
            _refuse_concurrent_post(world.mapping, shape, found, request)
            if found.dps_id == row.dps_id and found.nomis_id == row.nomis_id:
                return Reply(status=201)
            raise _conflict(table, found, row)
        table.insert(row)
        return Reply(status=201)

    return post


def _by_dps(table: Callable[[], Table]) -> Callable[..., Reply]:
    def get(request: Request, dps_id: str) -> Reply:
        held = table()
        row = held.by_dps.get(_path_value(held.shape.dps, dps_id))
        if row is None:
            raise Refused(404, f"Not Found: {held.shape.noun} mapping with {held.shape.dps.name} {dps_id} not found")
        return Reply(body=held.object_of(row))

    return get


def _by_nomis(table: Callable[[], Table]) -> Callable[..., Reply]:
    def get(request: Request, **parts: str) -> Reply:
        held = table()
        key = tuple(_path_value(column, parts[f"nomis_{place}"]) for place, column in enumerate(held.shape.nomis, 1))
        row = held.by_nomis.get(key)
        if row is None:
            raise Refused(404, f"Not Found: {held.shape.noun} mapping with NOMIS id {key} not found")
        return Reply(body=held.object_of(row))

    return get


def _deleter(table: Callable[[], Table]) -> Callable[..., Reply]:
    def delete(request: Request, dps_id: str) -> Reply:
        held = table()
        held.delete(_path_value(held.shape.dps, dps_id))
        return Reply(status=204)

    return delete


def _lister(table: Callable[[], Table]) -> Callable[[Request], Reply]:
    def get(request: Request) -> Reply:
        held = table()
        return Reply(body=[held.object_of(row) for row in held.by_dps.values()])

    return get


def _value(column: Column, body: dict[str, object]) -> Id:
    given = body.get(column.name)
    if given is None:
        raise _invalid(f"{column.name} must not be null")
    if column.number:
        return _number(column.name, given)
    if not isinstance(given, str):
        raise _invalid(f"{column.name} must be text")
    if column.length is not None and len(given) > column.length:
        raise _invalid(f"{column.name} has a maximum length of {column.length}")
    if column.values is not None and given not in column.values:
        raise _invalid(f"{column.name} must be one of {', '.join(sorted(column.values))}")
    return given


def _number(name: str, given: object) -> int:
    """Returns the value as a whole number; like the real service, also accepts a string of digits."""
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    if isinstance(given, str) and given.removeprefix("-").isdecimal():
        return int(given)
    raise _invalid(f"{name} must be a number")


def _path_value(column: Column, text: str) -> Id:
    return _number(column.name, text) if column.number else text


def _label(body: dict[str, object]) -> str | None:
    label = body.get("label")
    if label is None:
        return None
    if not isinstance(label, str) or len(label) > LABEL_LENGTH:
        raise _invalid(f"label has a maximum length of {LABEL_LENGTH}")
    return label


def _mapping_type(shape: Shape, body: dict[str, object]) -> str:
    given = body.get("mappingType") or shape.default_type
    if given is None:
        raise _invalid("mappingType must not be null")
    if not isinstance(given, str) or len(given) > LABEL_LENGTH:
        raise _invalid(f"mappingType has a maximum length of {LABEL_LENGTH}")
    if given not in shape.types:
        raise Refused(500, f"Unexpected error: No enum constant for mapping type {given}")
    return given


def _refuse_concurrent_post(state: MappingState, shape: Shape, found: Row, request: Request) -> None:
    if not found.posted_at:
        return
    both_looked_up = request.arrived < found.posted_at
    forced = (request.arrived - found.posted_at) * 1000 < state.race_ms and not found.raced
    if both_looked_up or forced:
        found.raced = True
        raise Refused(
            500,
            "Unexpected error: executeMany; duplicate key value violates unique constraint "
            f'"{shape.domain}_mapping_unique"',
        )


def _conflict(table: Table, found: Row, posted: Row) -> Refused:
    shape = table.shape
    text = (
        f"{shape.noun} mapping already exists. \nExisting mapping: {table.object_of(found)}\n"
        f"Duplicate mapping: {table.object_of(posted, stored=False)}"
    )
    if shape.conflicts_as_bad_request:
        if found.dps_id == posted.dps_id:
            return _invalid(f"{shape.noun} mapping id = {posted.dps_id} already exists")
        return _invalid(f"{shape.noun} with NOMIS id = {posted.nomis_id[0]} already exists")
    return Refused(
        409,
        f"Conflict: {text}",
        developer_message=text,
        error_code=CONFLICT_CODE,
        more_info={"existing": table.object_of(found), "duplicate": table.object_of(posted, stored=False)},
    )


def _invalid(reason: str) -> Refused:
    return Refused(400, f"Validation failure: {reason}")
