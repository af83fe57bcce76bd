"""Which differences between a declared and a published operation are reported, and how serious each is."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Literal, TypedDict

import pytest
from pydantic import AliasChoices, Field

from sync.contracts.compare import DriftLevel, compare
from sync.contracts.declared import shape_errors
from sync.contracts.document import Document
from sync.settings.upstreams import UpstreamName
from sync.upstream.operation import EMPTY, MappedValues, Operation, one, paged, rows, unparsed, written
from sync.upstream.responses import AlsoRead, Body, LocalTime, Money, Response, Since

PATH = "/things/{thingId}"


class Reason(Response):
    """A reason in the form that newer services return."""

    code: str


class Thing(Response):
    """The declared body of a response."""

    id: int
    name: str
    day: date | None = None
    at: LocalTime
    made: datetime | None = Field(None, validation_alias=AliasChoices("madeTime", "made"))
    reason: Annotated[str, AlsoRead(Reason)] | None = None
    kind: Literal["A", "B"]
    parts: tuple[Reason, ...] = ()
    later: Annotated[str | None, Since("2024-01")] = None


class NewThing(Body):
    """The declared body of a request."""

    name: str
    price: Money
    note: str | None


GOOD: Mapping[str, Any] = {
    "openapi": "3.0.1",
    "info": {"version": "2023-05-12.5804.9696012"},
    "paths": {
        "/things/{id}": {
            "get": {
                "description": "One thing. Requires role THINGS_READ",
                "parameters": [
                    {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}},
                    {"name": "full", "in": "query", "required": False, "schema": {"type": "boolean"}},
                ],
                "responses": {
                    "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
                    "404": {"description": "There is none"},
                },
            },
            "put": {
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/NewThing"}}}},
                "responses": {"200": {"description": "Done"}},
            },
        }
    },
    "components": {
        "schemas": {
            "Thing": {
                "type": "object",
                "required": ["id", "name", "at", "kind"],
                "properties": {
                    "id": {"type": "integer", "format": "int64"},
                    "name": {"type": "string"},
                    "day": {"type": "string", "format": "date"},
                    "at": {"type": "string", "format": "partial-time"},
                    "made": {"type": "string", "format": "date-time"},
                    "reason": {"type": "string"},
                    "kind": {"type": "string", "enum": ["A", "B"]},
                    "parts": {"type": "array", "items": {"$ref": "#/components/schemas/Part"}},
                },
            },
            "Part": {"type": "object", "required": ["code"], "properties": {"code": {"type": "string"}}},
            "NewThing": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string"},
                    "price": {"type": "number"},
                    "note": {"type": "string"},
                },
            },
        }
    },
}
GET = Operation(
    UpstreamName.NOMIS, "GET", PATH, one(Thing), role="THINGS_READ", optional_query=("full",), statuses=(409,)
)
PUT = Operation(UpstreamName.NOMIS, "PUT", PATH, EMPTY, body=NewThing)


def changed(*steps: tuple[str, Any]) -> Document:
    """The good document, changed by `steps`. Each step sets the value at a path, whose names are joined by `>`.

    A value of None removes the entry.
    """
    raw: Any = copy.deepcopy(GOOD)
    for where, value in steps:
        *way, last = where.split(">")
        place = raw
        for name in way:
            place = place[name]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return Document(raw)


def found(operation: Operation[Any], document: Document, **more: Any) -> list[tuple[str, str, str]]:
    """The level, kind and field of each difference."""
    return [(str(each.level), each.kind, each.field) for each in compare(operation, document, **more)]


THING, READ = "components>schemas>Thing", "paths>/things/{id}>get"
PROPERTIES = f"{THING}>properties"


def test_a_good_document_has_no_difference() -> None:
    """Renamed path parameters, references and optional fields are not differences."""
    assert found(GET, changed()) == []
    assert found(PUT, changed()) == []


@pytest.mark.parametrize(
    "step",
    [
        (f"{PROPERTIES}>extra", {"type": "string"}),
        (f"{PROPERTIES}>at", {"type": "string"}),
        (f"{PROPERTIES}>day", {"type": ["string", "null"], "format": "date"}),
        (f"{PROPERTIES}>day", {"type": "string", "nullable": True}),
        (f"{PROPERTIES}>day", {"oneOf": [{"type": "string"}, {"type": "null"}]}),
        (f"{PROPERTIES}>name", {"type": "string", "maxLength": 40}),
        (f"{PROPERTIES}>kind", {"type": "string", "enum": ["A"]}),
        (f"{PROPERTIES}>parts", {"items": {"allOf": [{"$ref": "#/components/schemas/Part"}]}}),
        (f"{PROPERTIES}>madeTime", {"type": "string"}),
        (f"{READ}>operationId", "getThing_1"),
        (f"{READ}>description", "One thing. Does not require any specific roles"),
        (f"{READ}>responses>409", {"description": "It is told apart"}),
        (f"{READ}>responses>503", {"description": "Every service may"}),
        ("openapi", "3.1.0"),
    ],
    ids=str,
)
def test_changes_without_effect_are_tolerated(step: tuple[str, Any]) -> None:
    """A harmless change, such as another form of null, a new field or fewer values, is not reported as a difference."""
    assert found(GET, changed(step)) == []


@pytest.mark.parametrize(
    ("step", "difference"),
    [
        (("paths>/things/{id}", {}), ("error", "operation-gone", "")),
        ((f"{PROPERTIES}>name", None), ("error", "field-gone", "name")),
        ((f"{PROPERTIES}>made", None), ("error", "field-gone", "madeTime")),
        ((f"{PROPERTIES}>name", {"type": "integer"}), ("error", "type", "name")),
        ((f"{PROPERTIES}>id", {"type": "number"}), ("error", "type", "id")),
        ((f"{PROPERTIES}>name", {"type": "string", "nullable": True}), ("error", "field-nullable", "name")),
        ((f"{PROPERTIES}>name", {"type": ["string", "null"]}), ("error", "field-nullable", "name")),
        ((f"{THING}>required", ["id", "at", "kind"]), ("error", "field-nullable", "name")),
        ((f"{PROPERTIES}>kind", {"type": "string", "enum": ["A", "B", "C"]}), ("error", "value-new", "kind")),
        ((f"{PROPERTIES}>parts", {"$ref": "#/components/schemas/Part"}), ("error", "type", "parts")),
        (("components>schemas>Part>properties", {"id": {"type": "string"}}), ("error", "field-gone", "parts[].code")),
        ((f"{PROPERTIES}>reason", {"$ref": "#/components/schemas/Part"}), ("note", "field-form", "reason")),
        ((f"{THING}>type", "array"), ("error", "type", "")),
        ((f"{READ}>parameters", []), ("error", "query-unknown", "full")),
        (
            (f"{READ}>parameters", [{"name": "full", "in": "query", "required": True, "schema": {}}]),
            ("error", "query-required", "full"),
        ),
        ((f"{READ}>responses", {"204": {"description": "Empty"}}), ("error", "response-empty", "")),
        ((f"{READ}>responses>423", {"description": "Locked"}), ("warning", "status-unknown", "423")),
        ((f"{READ}>deprecated", True), ("warning", "deprecated", "")),
        ((f"{READ}>description", "Requires one of the roles: ROLE_THINGS__RW, ADMIN_X"), ("warning", "role", "")),
    ],
    ids=lambda value: str(value)[:60],
)
def test_changes_that_break_a_read_are_found(step: tuple[str, Any], difference: tuple[str, str, str]) -> None:
    """A change that matters to a read is reported as one difference, with a level, a kind and a field."""
    assert found(GET, changed(step)) == [difference]


@pytest.mark.parametrize(
    ("step", "difference"),
    [
        (("required", ["name", "size"]), ("error", "body-required", "size")),
        (("required", ["name", "note"]), ("warning", "body-required", "note")),
        (("properties>note", None), ("warning", "body-unknown", "note")),
        (("properties>price", {"type": "string"}), ("error", "type", "price")),
    ],
    ids=str,
)
def test_changes_that_break_a_write_are_found(step: tuple[str, Any], difference: tuple[str, str, str]) -> None:
    """A field of a sent body that is newly required, no longer known or of another type is reported."""
    assert found(PUT, changed((f"components>schemas>NewThing>{step[0]}", step[1]))) == [difference]


def test_later_fields_are_expected_only_of_later_services() -> None:
    """The date in a document's version decides which fields and operations the service is expected to have.

    A service counts as current if its document's version has no date.
    """
    later = Operation(UpstreamName.NOMIS, "GET", "/new", one(Reason), since="2024-01")
    until = Operation(UpstreamName.NOMIS, "GET", "/old", one(Reason), until="2024-01")
    for version, fields, gone in (("2023-12-31.1", [], 1), ("2024-01-02.1", ["later"], 1), ("1.0", ["later"], 1)):
        document = changed(("info>version", version))
        assert [field for _, _, field in found(GET, document)] == fields
        assert len(found(later, document)) + len(found(until, document)) == gone
        assert bool(found(until, document)) == (version < "2024" and version.startswith("2"))


def test_new_values_are_errors_unless_a_rule_has_a_default() -> None:
    """A new value in a response is an error, or a warning if the rule for the field's values has a default.

    A value that only older services have is a note. A sent value that the document does not list is a warning.
    """
    document = changed((f"{PROPERTIES}>name", {"type": "string", "enum": ["X", "Y"]}))
    known = MappedValues(GET, "name", frozenset({"X"}))
    assert found(GET, document, mapped=[known]) == [("error", "value-new", "name")]
    with_default = MappedValues(GET, "name", frozenset({"X"}), has_default=True)
    assert found(GET, document, mapped=[with_default]) == [("warning", "value-new", "name")]
    older = MappedValues(GET, "name", frozenset({"X", "Y", "Z"}), older=frozenset({"Z"}))
    assert found(GET, document, mapped=[older]) == [("note", "value-gone", "name")]
    sent = MappedValues(PUT, "name", frozenset({"X", "Q"}))
    accepts = changed(("components>schemas>NewThing>properties>name", {"type": "string", "enum": ["X", "Y"]}))
    assert found(PUT, accepts, mapped=[sent]) == [("warning", "value-refused", "name")]


def test_page_limits_and_renamed_parameters_are_notes() -> None:
    """A limit on the page size is only a note, and so is a renamed parameter that is sent under both names.

    A page instead of a list is an error.
    """
    page = {
        "type": "object",
        "properties": {"content": {"type": "array", "items": {"$ref": "#/components/schemas/Part"}}},
    }
    sizes = {"type": "object", "properties": {"page": {"type": "integer"}, "size": {"type": "integer", "maximum": 500}}}
    parameters = [
        {"name": "pageable", "in": "query", "required": True, "schema": sizes},
        {"name": "from", "in": "query", "schema": {"type": "string"}},
    ]
    responses = {"200": {"content": {"*/*": {"schema": page}}}}
    document = changed((f"{READ}>parameters", parameters), (f"{READ}>responses", responses))
    listed = Operation(
        UpstreamName.NOMIS, "GET", PATH, paged(Reason), role="THINGS_READ", renamed_query={"begin": "from"}
    )
    assert sorted(found(listed, document)) == [("note", "page-size", "size"), ("note", "query-renamed", "begin")]
    as_list = Operation(UpstreamName.NOMIS, "GET", PATH, rows(Reason), role="THINGS_READ")
    assert found(as_list, document) == [("error", "type", "")]


def test_parameters_may_stand_beside_the_methods_of_a_path() -> None:
    """Parameters that a document gives once for all methods of a path count for each method.

    They are not taken for a method, and a method's own parameters take precedence.
    """
    item = "paths>/things/{id}"
    shared = [
        {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}},
        {"name": "full", "in": "query", "required": True, "schema": {"type": "boolean"}},
    ]
    once = changed((f"{item}>parameters", shared), (f"{item}>summary", "Things"), (f"{READ}>parameters", None))
    assert sorted(once.all()) == [("GET", "/things/{id}"), ("PUT", "/things/{id}")]
    assert found(GET, once) == found(GET, changed((f"{READ}>parameters", shared)))
    overridden = changed((f"{item}>parameters", shared))
    assert found(GET, overridden) == []


class Row(TypedDict, total=False):
    """A record that the caller reads from the decoded JSON itself."""

    code: str


def test_a_real_response_is_compared_with_the_declaration() -> None:
    """In a real response, missing fields and fields of the wrong type are named, without their values.

    An optional field may be absent.
    """
    assert shape_errors(GET, {"id": 1, "name": "n", "at": "10:00", "kind": "A", "reason": {"code": "X"}}) == []
    wrong = {"id": "1", "at": "10:00", "kind": "A", "parts": [{"code": None}, 2]}
    assert shape_errors(GET, wrong) == [
        "id is not of type integer",
        "name is missing",
        "parts[] is not of type object",
        "parts[].code is missing",
    ]
    by_hand = Operation(UpstreamName.NOMIS, "GET", PATH, unparsed(Row, "list"))
    assert shape_errors(by_hand, [{"code": "X"}, {}, {"code": 1}]) == ["[].code is not of type string"]
    made = Operation(UpstreamName.NOMIS, "POST", PATH, written(Reason))
    assert shape_errors(made, []) == ["the response is not of type object"]


@pytest.mark.parametrize("raw", [None, [], {}, {"openapi": "3.0.1"}, {"paths": {}}, "<html>"])
def test_a_response_that_is_not_a_document_is_refused(raw: object) -> None:
    """A response that is not an OpenAPI document is refused with an error."""
    with pytest.raises(ValueError, match="not an OpenAPI document"):
        Document(raw)


def test_levels_are_in_order_of_severity() -> None:
    """The levels of differences are in order of severity, with errors first."""
    assert list(DriftLevel) == [DriftLevel.ERROR, DriftLevel.WARNING, DriftLevel.NOTE]
