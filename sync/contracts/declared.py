"""What the program declares about a body or a response, by the type that it really uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

from sync.upstream.responses import AlsoRead, Since

#: The JSON type of each plain type; dates and times are text.
_JSON: Mapping[Any, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    Decimal: "number",
    str: "string",
    date: "string",
    datetime: "string",
    time: "string",
}


@dataclass(frozen=True, slots=True)
class Declared:
    """A value: its JSON type (`any` for whatever comes), and what is inside.

    values: the only values that it may have, None for any. also: another form that is read as well.
    """

    type: str
    values: frozenset[str] | None = None
    fields: tuple[DeclaredField, ...] = ()
    items: Declared | None = None
    also: Declared | None = None
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class DeclaredField:
    """A field: its names in JSON, the older one last, and its value.

    required: it must be there. nullable: it may be null. since: the month in which services got it, empty for always.
    """

    names: tuple[str, ...]
    value: Declared = field(repr=False)
    required: bool
    nullable: bool
    since: str = ""


@cache
def declared(type_: Any) -> Declared:
    """The declaration that a type is: a model, a `TypedDict`, a list, or a plain type."""
    return _declared(type_, ())


def _declared(type_: Any, metadata: tuple[Any, ...]) -> Declared:
    origin = get_origin(type_)
    if origin is Annotated:
        inner, *further = get_args(type_)
        return _declared(inner, (*metadata, *further))
    if origin in (Union, UnionType):
        kinds = [each for each in get_args(type_) if each is not NoneType]
        one = _declared(kinds[0], metadata)
        return Declared(
            one.type, one.values, one.fields, one.items, one.also, nullable=len(kinds) < len(get_args(type_))
        )
    also = next((declared(each.shape) for each in metadata if isinstance(each, AlsoRead)), None)
    if origin is Literal:
        return Declared("string", frozenset(map(str, get_args(type_))), also=also)
    if origin in (list, tuple):
        return Declared("array", items=declared(get_args(type_)[0]), also=also)
    if isinstance(type_, type) and issubclass(type_, BaseModel):
        return Declared("object", fields=tuple(_field(each) for each in type_.model_fields.values()), also=also)
    if is_typeddict(type_):
        hints = get_type_hints(type_, include_extras=True)
        # A response that is parsed by hand is checked field by field.
        fields = (DeclaredField((name,), declared(hint), required=False, nullable=True) for name, hint in hints.items())
        return Declared("object", fields=tuple(fields), also=also)
    return Declared(_JSON.get(type_, "any"), also=also)


def _field(info: FieldInfo) -> DeclaredField:
    choices = info.validation_alias
    names = tuple(map(str, choices.choices)) if isinstance(choices, AliasChoices) else (str(info.alias),)
    value = _declared(info.annotation, tuple(info.metadata))
    since = next((each.month for each in info.metadata if isinstance(each, Since)), "")
    return DeclaredField(names, value, info.is_required(), value.nullable or value.type == "any", since)
