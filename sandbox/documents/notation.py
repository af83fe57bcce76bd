"""A short notation for what a service publishes about its endpoints, with the month of each change.

The notation for a value is a word (`integer`, `text`, `date`, `date-time`, `time`, `boolean`, `number`), or the
possible values in capitals (`OPEN|CLOSED`). A list with one element stands for a list of values like that element, and
a dictionary for an object. A field may be missing if the notation for its value ends with `?` or is inside `Maybe`; a
value inside `Null` may be null.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

Value = Any
_WORDS: Final = {
    "integer": {"type": "integer", "format": "int64"},
    "number": {"type": "number"},
    "text": {"type": "string"},
    "date": {"type": "string", "format": "date"},
    "date-time": {"type": "string", "format": "date-time"},
    "time": {"type": "string", "format": "partial-time"},
    "boolean": {"type": "boolean"},
}
_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_ERROR: Final = {"status": "integer", "errorCode": "integer?", "userMessage": "text?", "developerMessage": "text?"}


@dataclass(frozen=True, slots=True)
class Maybe:
    """A value whose field may be missing; the program must be able to do without that field."""

    value: Value


@dataclass(frozen=True, slots=True)
class Null:
    """A value that may be null; its field is always present, unless a `Maybe` or a `?` allows it to be missing."""

    value: Value


@dataclass(frozen=True, slots=True)
class Page:
    """A page of values like `value`, in the form in which Spring writes pages."""

    value: Value


class Changed:
    """A value that changed: the first value, and each later one with the month of the change.

    None means that there was no value.
    """

    def __init__(self, first: Value, *later: tuple[str, Value]) -> None:
        self._values = (("", first), *later)

    def in_(self, month: str) -> Value:
        """Returns the value that was current in a given month, such as `2024-02`."""
        return next(value for since, value in reversed(self._values) if since <= month)


def since(month: str, value: Value) -> Changed:
    """Returns a value that was added in a given month."""
    return Changed(None, (month, value))


def until(month: str, value: Value) -> Changed:
    """Returns a value that was removed in a given month."""
    return Changed(value, (month, None))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint.

    Attributes: method: the request's method. path: the path with the names of its parameters in braces. gives: the body
    of a successful response, or None if it is empty. takes: the request body, or None if there is none. query: the
    names of the query parameters; a parameter is required if its name ends with `!`. roles: the roles of which a caller
    needs one; if there are none, any token will do. status: the status of a successful response. refusals: the statuses
    of refusals besides 400, 401, 403 and 404, each with the response body. since: the month in which the endpoint was
    added. until: the month in which it was removed. deprecated: what the document advises instead if the endpoint is
    deprecated, otherwise None.
    """

    method: str
    path: str
    gives: Value = None
    takes: Value = None
    query: Value = ()
    roles: Value = ()
    status: int = 200
    refusals: Value = field(default_factory=dict)
    since: str = ""
    until: str = ""
    deprecated: Value = None


def document(title: str, endpoints: Iterable[Endpoint], month: str, built: str, version: str) -> dict[str, Any]:
    """Returns the OpenAPI document of a service in a given month.

    `title` names the service, `built` is the day on which it was built, and `version` is the version of OpenAPI.
    """
    writer = _Writer(month, version)
    paths: dict[str, dict[str, Any]] = {}
    for each in endpoints:
        if each.since <= month and not (each.until and each.until <= month):
            paths.setdefault(each.path, {})[each.method.lower()] = writer.operation(each)
    return {
        "openapi": version,
        "info": {"title": title, "version": f"{built}.1.0"},
        "paths": paths,
        "components": {"schemas": writer.schemas},
    }


class _Writer:
    """Writes the endpoints of one document; objects become named schemas, to which the endpoints refer."""

    def __init__(self, month: str, version: str) -> None:
        self.schemas: dict[str, Any] = {}
        self._month = month
        self._newer = version >= "3.1"

    def operation(self, endpoint: Endpoint) -> dict[str, Any]:
        roles, deprecated = self._now(endpoint.roles), self._now(endpoint.deprecated)
        needed = f"Requires one of the following roles: {', '.join(roles)}" if roles else "Any valid token will do"
        gives, takes = self._now(endpoint.gives), self._now(endpoint.takes)
        success: dict[str, Any] = {"description": "OK"}
        if gives is not None:
            success["content"] = self._content(gives)
        refusals = {400: _ERROR, 401: _ERROR, 403: _ERROR, 404: _ERROR, **(self._now(endpoint.refusals) or {})}
        written: dict[str, Any] = {
            "summary": f"{endpoint.method} {endpoint.path}",
            "description": needed if deprecated is None else f"{deprecated}. {needed}",
            "parameters": [
                *(
                    {"name": each, "in": "path", **self._parameter("text")}
                    for each in _PARAMETER.findall(endpoint.path)
                ),
                *self._query(endpoint, paged=isinstance(gives, Page)),
            ],
            "responses": {str(endpoint.status): success}
            | {
                str(status): {"description": "Refused", "content": self._content(body)}
                for status, body in refusals.items()
            },
        }
        if deprecated is not None:
            written["deprecated"] = True
        if takes is not None:
            written["requestBody"] = {"content": self._content(takes), "required": True}
        return written

    def _query(self, endpoint: Endpoint, *, paged: bool) -> Iterable[dict[str, Any]]:
        for name in self._now(endpoint.query) or ():
            required = name.endswith("!")
            schema, _ = self._schema("text")
            yield {"name": name.rstrip("!"), "in": "query", "required": required, "schema": schema}
        if paged:
            schema, _ = self._schema({"page": "integer?", "size": "integer?", "sort": Maybe(["text"])})
            yield {"name": "pageRequest", "in": "query", "required": True, "schema": schema}

    def _parameter(self, value: Value) -> dict[str, Any]:
        return {"required": True, "schema": self._schema(value)[0]}

    def _content(self, value: Value) -> dict[str, Any]:
        return {"application/json": {"schema": self._schema(value)[0]}}

    def _now(self, value: Value) -> Value:
        while isinstance(value, Changed):
            value = value.in_(self._month)
        return value

    def _schema(self, value: Value) -> tuple[dict[str, Any], bool]:
        """Returns the schema of a value, and whether the value is always present."""
        value = self._now(value)
        if isinstance(value, Maybe):
            return self._schema(value.value)[0], False
        if isinstance(value, Null):
            schema, required = self._schema(value.value)
            return self._or_null(schema), required
        if isinstance(value, Page):
            counts = dict.fromkeys(("totalPages", "totalElements", "size", "number", "numberOfElements"), "integer?")
            return self._schema({**counts, "last": "boolean?", "content": Maybe([value.value])})
        if isinstance(value, list):
            return {"type": "array", "items": self._schema(value[0])[0]}, True
        if isinstance(value, dict):
            return self._object(value), True
        word = value.rstrip("?")
        if word not in _WORDS:
            return {"type": "string", "enum": word.split("|")}, not value.endswith("?")
        schema = dict(_WORDS[word])
        if word == "time" and self._newer:
            del schema["format"]
        return schema, not value.endswith("?")

    def _object(self, fields: dict[str, Value]) -> dict[str, Any]:
        written = {name: self._schema(value) for name, value in fields.items() if self._now(value) is not None}
        name = f"Schema{len(self.schemas) + 1}"
        required = [each for each, (_, always) in written.items() if always]
        self.schemas[name] = {"type": "object", "properties": {each: schema for each, (schema, _) in written.items()}}
        if required:
            self.schemas[name]["required"] = required
        return {"$ref": f"#/components/schemas/{name}"}

    def _or_null(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Returns a schema that also allows null, in the form that the OpenAPI version requires."""
        if self._newer:
            if "$ref" in schema:
                return {"oneOf": [schema, {"type": "null"}]}
            return schema | {"type": [schema["type"], "null"]}
        return {"allOf": [schema], "nullable": True} if "$ref" in schema else schema | {"nullable": True}
