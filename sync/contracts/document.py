"""Reads a service's OpenAPI document, version 3.0 or 3.1: what each operation accepts and what it responds with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
_PARAMETER = re.compile(r"\{[^}]*\}")
_MONTH = re.compile(r"\d{4}-\d{2}(?=-\d{2})")
#: The month of a document that does not say when it was made. Such a document counts as current.
_TODAY = "9999-12"
#: A role is a word in capitals, in a sentence about roles.
_ABOUT_ROLES = re.compile(r"\broles?\b.*", re.IGNORECASE | re.DOTALL)
_ROLE = re.compile(r"\b(?:ROLE_)?([A-Z][A-Z0-9]*(?:_+[A-Z0-9]+)+|PRISON)\b")
_JSON = re.compile(r"json|\*/\*")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter.

    default, maximum: the value in the document if it is a whole number, as for a page size; otherwise None.
    """

    required: bool
    default: int | None = None
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class Schema:
    """The schema that the document gives for a value.

    types: the JSON types of the value, without null; empty if the document gives no type. nullable: whether the value
    may be null. values: the allowed values, as text, or None if the document does not list them.
    """

    types: frozenset[str]
    nullable: bool
    values: frozenset[str] | None
    raw: Mapping[str, Any] = field(repr=False)
    document: Document = field(repr=False)

    @property
    def required(self) -> frozenset[str]:
        """The names of the fields that must be present."""
        return frozenset(self.raw.get("required", ()))

    @property
    def names(self) -> frozenset[str]:
        """The names of all fields, required or not."""
        return frozenset(self.raw.get("properties", {}))

    def field(self, name: str) -> Schema:
        """The schema of the field `name`."""
        return self.document.schema(self.raw["properties"][name])

    @property
    def items(self) -> Schema:
        """The schema of the elements of a value that is a list."""
        return self.document.schema(self.raw.get("items", {}))


@dataclass(frozen=True, slots=True)
class Published:
    """An operation in the document.

    body, response: the schemas of the request body and of the response on success, each None if there is no JSON body.
    """

    deprecated: bool
    description: str
    query: Mapping[str, Parameter]
    body: Schema | None
    response: Schema | None
    statuses: frozenset[int]
    roles: frozenset[str]


class Document:
    """An OpenAPI document, made from decoded JSON. Raises `ValueError` if the JSON is not such a document."""

    def __init__(self, raw: Any) -> None:
        if not isinstance(raw, dict) or not isinstance(raw.get("paths"), dict) or "openapi" not in raw:
            raise ValueError("the response is not an OpenAPI document")
        self._raw = raw
        self.version = str(raw.get("info", {}).get("version", ""))
        found = _MONTH.search(self.version)
        #: The month in which the service was built, which is part of its version.
        self.month = _TODAY if found is None else found[0]
        #: By method and path. The parameters that a path gives for all its methods come before those of the method.
        self._operations = {
            (method.upper(), path): {**item[method], "parameters": [*_parameters(item), *_parameters(item[method])]}
            for path, item in raw["paths"].items()
            for method in item
            if method in _METHODS
        }
        self._by_form = {(method, anonymous(path)): raw for (method, path), raw in self._operations.items()}

    def find(self, method: str, path: str) -> Published | None:
        """The operation with `method` and `path`, or None if there is no such operation.

        The names of the parameters in the path are ignored.
        """
        raw = self._by_form.get((method, anonymous(path)))
        return None if raw is None else self._published(raw)

    def all(self) -> Iterator[tuple[str, str]]:
        """The method and path of every operation."""
        yield from self._operations

    def schema(self, raw: Mapping[str, Any]) -> Schema:
        """The schema `raw` with its references resolved. It is nullable if `raw` allows null, in whatever notation."""
        whole = self._whole(raw)
        given = whole.get("type", ())
        types = {given} if isinstance(given, str) else set(given)
        nullable = bool(whole.get("nullable")) or "null" in types
        values = whole.get("enum")
        if not types and ("properties" in whole or "items" in whole):
            types = {"object" if "properties" in whole else "array"}
        return Schema(
            frozenset(types - {"null"}),
            nullable,
            None if values is None else frozenset(str(each) for each in values if each is not None),
            whole,
            self,
        )

    def _whole(self, raw: Mapping[str, Any]) -> Mapping[str, Any]:
        """The schema `raw` with its reference followed and its parts merged."""
        if "$ref" in raw:
            found: Any = self._raw
            for part in raw["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            return {**self._whole(found), **{name: value for name, value in raw.items() if name == "nullable"}}
        for several in ("oneOf", "anyOf"):
            if several in raw:
                parts = [self._whole(each) for each in raw[several]]
                forms = [each for each in parts if each.get("type") != "null"]
                nullable = bool(raw.get("nullable")) or len(forms) < len(parts)
                types = sorted({str(each.get("type", "object")) for each in forms})
                merged: Mapping[str, Any] = forms[0] if len(forms) == 1 else {"type": types, **_merged(forms)}
                return {**merged, "nullable": nullable or bool(merged.get("nullable"))}
        if "allOf" in raw:
            parts = [self._whole(each) for each in raw["allOf"]]
            required = [name for each in parts for name in each.get("required", ())]
            return {**parts[0], **_merged(parts), "required": required, "nullable": bool(raw.get("nullable"))}
        return raw

    def _published(self, raw: Mapping[str, Any]) -> Published:
        query: dict[str, Parameter] = {}
        for each in map(self._parameter, _parameters(raw)):
            if each.get("in") == "query":
                query |= self._query(each)
        responses = raw.get("responses", {})
        success = [value for status, value in sorted(responses.items()) if status.startswith("2")]
        forbidden = self._parameter(responses.get("403", {})).get("description", "")
        description = " ".join(str(raw.get(name, "")) for name in ("summary", "description"))
        return Published(
            deprecated=bool(raw.get("deprecated")),
            description=str(raw.get("description") or raw.get("summary", "")),
            query=query,
            body=self._content(raw.get("requestBody", {})),
            response=next((found for each in success if (found := self._content(each)) is not None), None),
            statuses=frozenset(int(status) for status in responses if status.isdecimal()),
            roles=_roles(description) or _roles(forbidden),
        )

    def _query(self, raw: Mapping[str, Any]) -> dict[str, Parameter]:
        """The query parameters that `raw` stands for, by name. Spring writes the paging parameters as one object."""
        schema = self.schema(raw.get("schema", {}))
        if "object" in schema.types:
            inner = {name: schema.field(name).raw for name in schema.names}
            return {name: _page_size(False, each) for name, each in inner.items()}
        return {raw["name"]: _page_size(bool(raw.get("required")), schema.raw)}

    def _parameter(self, raw: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._whole(raw) if "$ref" in raw else raw

    def _content(self, raw: Mapping[str, Any]) -> Schema | None:
        for media, content in self._parameter(raw).get("content", {}).items():
            if _JSON.search(media) and "schema" in content:
                return self.schema(content["schema"])
        return None


def anonymous(path: str) -> str:
    """`path` without the names of its parameters, so that paths that differ only in these names are equal."""
    return _PARAMETER.sub("{}", path.rstrip("/"))


def _parameters(raw: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(raw.get("parameters", ()))


def _merged(parts: list[Mapping[str, Any]]) -> dict[str, Any]:
    properties = {name: value for each in parts for name, value in each.get("properties", {}).items()}
    return {"properties": properties} if properties else {}


def _page_size(required: bool, schema: Mapping[str, Any]) -> Parameter:
    default, maximum = schema.get("default"), schema.get("maximum")
    return Parameter(
        required,
        default if isinstance(default, int) and not isinstance(default, bool) else None,
        maximum if isinstance(maximum, int) else None,
    )


def _roles(text: str) -> frozenset[str]:
    found = _ABOUT_ROLES.search(text)
    return frozenset(_ROLE.findall(found[0])) if found else frozenset()
