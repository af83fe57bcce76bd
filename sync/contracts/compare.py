"""Compares an operation that the program declares with the same operation in the service's document.

An error means that calls fail or that responses are misread. A warning means that this may happen to some calls. A note
means that nothing has to be done. Differences without effect are ignored: new optional fields, and different ways of
writing null, times, ids in paths, and references.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

from sync.contracts.declared import Declared, DeclaredField, declared
from sync.contracts.document import Document, Published, Schema, anonymous
from sync.upstream.operation import MappedValues, Operation

#: Statuses that every operation may have, and that every caller handles.
_COMMON = frozenset({200, 201, 202, 204, 400, 401, 403, 404, 429, 500, 503})
_JSON_NAMES = {"array": "a list", "object": "an object", "string": "text", "boolean": "true or false"}


class DriftLevel(StrEnum):
    """How serious a difference is for the program."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, order=True)
class OperationDifference:
    """One difference in `operation`, such as `GET /visits/{visitId}`. `kind` is for programs, `text` for people."""

    level: DriftLevel
    kind: str
    operation: str
    field: str
    text: str


def compare(
    operation: Operation[Any],
    document: Document,
    client_roles: frozenset[str] = frozenset(),
    mapped: Iterable[MappedValues] = (),
    called: Iterable[Operation[Any]] = (),
) -> Iterator[OperationDifference]:
    """The differences between `operation` and `document`.

    There are none if the document is from before `operation.since`, or from `operation.until` or later.

    client_roles: the roles that the client of the service certainly has. mapped: the field values that rules know or
    send. called: all operations that the program calls. They are not suggested as replacements for an operation that is
    gone.
    """
    if document.month < operation.since or (operation.until and operation.until <= document.month):
        return
    name = f"{operation.method} {operation.path}"
    published = document.find(operation.method, operation.path)
    if published is None:
        yield OperationDifference(
            DriftLevel.ERROR, "operation-gone", name, "", f"is gone{_like(name, document, called)}"
        )
        return
    known = {each.field: each for each in mapped if each.operation is operation}
    comparison = _Comparison(operation, published, document.month, client_roles, known)
    for level, kind, field, text in (*comparison.request(), *comparison.response(), *comparison.others()):
        yield OperationDifference(level, kind, name, field, text)


_Found = tuple[DriftLevel, str, str, str]


@dataclass(frozen=True, slots=True)
class _Comparison:
    operation: Operation[Any]
    published: Published
    month: str
    client_roles: frozenset[str]
    known: dict[str, MappedValues]

    def request(self) -> Iterator[_Found]:
        """The differences in the query and the body that the program sends."""
        operation, query = self.operation, self.published.query
        paging = ("page", "size") if operation.response.form == "page" else ()
        always, at_times = {*operation.query, *paging}, set(operation.optional_query)
        for old, new in operation.renamed_query.items():
            always |= {old, new}
            if old not in query and new in query:
                yield DriftLevel.NOTE, "query-renamed", old, f"parameter {old} is now called {new}; both are sent"
        renamed = {name for pair in operation.renamed_query.items() if set(pair) & query.keys() for name in pair}
        for name in sorted((always | at_times) - query.keys() - renamed):
            yield DriftLevel.ERROR, "query-unknown", name, f"parameter {name} is unknown, so the service ignores it"
        for name, parameter in query.items():
            if parameter.required and name not in always:
                sent = "only sometimes sent" if name in at_times else "not sent"
                yield DriftLevel.ERROR, "query-required", name, f"parameter {name} is required, but is {sent}"
            if name in ("size", "pageSize") and name in always and (parameter.default or parameter.maximum):
                sizes = f"default {parameter.default or 'not given'}, maximum {parameter.maximum or 'not given'}"
                yield DriftLevel.NOTE, "page-size", name, f"page size: {sizes}"
        if operation.body is not None:
            if self.published.body is None:
                yield DriftLevel.ERROR, "body-unknown", "", "does not accept a body, but one is sent"
            else:
                yield from self._sent(declared(operation.body), self.published.body, "")

    def response(self) -> Iterator[_Found]:
        """The differences in the response that the program reads."""
        spec, schema = self.operation.response, self.published.response
        if spec.form == "empty":
            return
        if schema is None:
            yield DriftLevel.ERROR, "response-empty", "", "has no response body, but one is read"
            return
        shape = declared(spec.shape)
        if spec.form == "page":
            if "content" not in schema.names:
                yield DriftLevel.ERROR, "response-form", "", "does not respond with a page, but a page is read"
                return
            schema = schema.field("content").items
        elif spec.form == "list":
            shape = Declared("array", items=shape)
        elif spec.or_list and "array" in schema.types:
            yield DriftLevel.NOTE, "response-form", "", "now responds with a list, which the program can also read"
            schema = schema.items
        yield from self._read(shape, schema, "")

    def others(self) -> Iterator[_Found]:
        """The differences in statuses and roles, and a warning if the operation is deprecated."""
        if self.published.deprecated:
            said = " ".join(self.published.description.split()).partition(". ")[0][:200]
            yield DriftLevel.WARNING, "deprecated", "", f"is deprecated: {said}" if said else "is deprecated"
        for status in sorted(self.published.statuses - _COMMON - set(self.operation.statuses)):
            yield (
                DriftLevel.WARNING,
                "status-unknown",
                str(status),
                f"may respond with {status}, which no rule covers",
            )
        wanted = self.published.roles
        have = self.client_roles | ({self.operation.role} if self.operation.role else set())
        if wanted and not wanted & have:
            roles = " or ".join(sorted(wanted))
            relied = "any token will do" if self.operation.role is None else f"{self.operation.role} will do"
            yield DriftLevel.WARNING, "role", "", f"requires the role {roles}; the program assumes that {relied}"

    def _sent(self, shape: Declared, schema: Schema, at: str) -> Iterator[_Found]:
        yield from self._types(shape, schema, at, reads=False)
        if shape.items is not None and "array" in schema.types:
            yield from self._sent(shape.items, schema.items, f"{at}[]")
        if "object" not in schema.types:
            return
        names = {name: field for field in shape.fields for name in field.names}
        for name, field in names.items():
            if name in schema.names:
                yield from self._sent(field.value, schema.field(name), _at(at, name))
            elif field.since <= self.month:
                yield DriftLevel.WARNING, "body-unknown", _at(at, name), f"body field {_at(at, name)} is unknown"
        for name in sorted(schema.required):
            where = _at(at, name)
            if name not in names:
                yield DriftLevel.ERROR, "body-required", where, f"body field {where} is required, but not sent"
            elif names[name].nullable:
                yield (
                    DriftLevel.WARNING,
                    "body-required",
                    where,
                    f"body field {where} is required, but is only sometimes sent",
                )

    def _read(self, shape: Declared, schema: Schema, at: str) -> Iterator[_Found]:
        if shape.also is not None and shape.type not in schema.types and shape.also.type in schema.types:
            form = _JSON_NAMES.get(shape.also.type, shape.also.type)
            yield DriftLevel.NOTE, "field-form", at, f"field {at} is now {form}, which the program can also read"
            yield from self._read(shape.also, schema, at)
            return
        yield from self._types(shape, schema, at, reads=True)
        if shape.items is not None and "array" in schema.types:
            yield from self._read(shape.items, schema.items, f"{at}[]")
        if shape.fields and "object" in schema.types:
            for field in shape.fields:
                yield from self._read_field(field, schema, at)

    def _read_field(self, field: DeclaredField, schema: Schema, at: str) -> Iterator[_Found]:
        name = next((each for each in field.names if each in schema.names), None)
        where = _at(at, name or field.names[0])
        if name is None:
            if field.since <= self.month:
                yield DriftLevel.ERROR, "field-gone", where, f"field {where} is gone"
            return
        value = schema.field(name)
        may_lack = name not in schema.required or value.nullable
        if may_lack and not field.nullable and (field.required or value.nullable):
            yield DriftLevel.ERROR, "field-nullable", where, f"field {where} may be missing or null, but is always read"
        yield from self._read(field.value, value, where)

    def _types(self, shape: Declared, schema: Schema, at: str, *, reads: bool) -> Iterator[_Found]:
        wanted = {"integer", "number"} if shape.type == "number" or not reads else {"integer"}
        fits = wanted if shape.type in ("integer", "number") else {shape.type}
        if shape.type != "any" and schema.types and not schema.types & fits:
            now = " or ".join(_JSON_NAMES.get(each, "a number") for each in sorted(schema.types))
            was = _JSON_NAMES.get(shape.type, "a number")
            place = f"{'field' if reads else 'body field'} {at}" if at else "the response" if reads else "the body"
            verb = "read" if reads else "sent"
            yield DriftLevel.ERROR, "type", at, f"{place} is {now}, but {was} is {verb}"
            return
        if schema.values is None:
            return
        known = self.known.get(at)
        values = shape.values if known is None else known.values
        if values is None:
            return
        if reads:
            for value in sorted((known.older if known is not None else frozenset()) - schema.values):
                yield DriftLevel.NOTE, "value-gone", at, f"field {at} can no longer be {value}"
            level = DriftLevel.WARNING if known is not None and known.has_default else DriftLevel.ERROR
            for value in sorted(schema.values - values):
                yield level, "value-new", at, f"field {at} may be {value}, which no rule covers"
        else:
            for value in sorted(values - schema.values):
                yield DriftLevel.WARNING, "value-refused", at, f"body field {at} may not be {value}, which is sent"


def _at(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _like(name: str, document: Document, called: Iterable[Operation[Any]]) -> str:
    """Names the operation in `document` that is most similar to the operation `name`, for the end of a sentence.

    Operations in `called` are not named. Returns an empty string if no operation is similar.
    """
    known = {(each.method, anonymous(each.path)) for each in called}
    others = [f"{method} {path}" for method, path in document.all() if (method, anonymous(path)) not in known]
    found = get_close_matches(name, others, n=1, cutoff=0.7)
    return f"; the most similar operation is {found[0]}" if found else ""
