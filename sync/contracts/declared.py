"""Reads the program's declarations of request bodies and responses: the types that the program uses for them.

The module also compares a real response with its declaration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

from sync.upstream.operation import Operation
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
    """The declaration of a value.

    type: the JSON type, or `any` if every type is accepted. values: the only values that are allowed, or None if any
    value is allowed. fields: the fields of an object. items: the elements of a list. also: a second form of the value
    that the program can read. nullable: whether the value may be null.
    """

    type: str
    values: frozenset[str] | None = None
    fields: tuple[DeclaredField, ...] = ()
    items: Declared | None = None
    also: Declared | None = None
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class DeclaredField:
    """The declaration of a field: its names in JSON (older names last), and its value.

    required: whether the field must be present. nullable: whether it may be null. since: the month in which services
    introduced it, such as `2023-11`, or empty if they have always had it.
    """

    names: tuple[str, ...]
    value: Declared = field(repr=False)
    required: bool
    nullable: bool
    since: str = ""


@cache
def declared(type_: Any) -> Declared:
    """The declaration of a value of `type_`: a model, a `TypedDict`, a list or tuple, or a plain type."""
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
        # The code that reads a `TypedDict` checks each field itself, so that none is required here.
        fields = (DeclaredField((name,), declared(hint), required=False, nullable=True) for name, hint in hints.items())
        return Declared("object", fields=tuple(fields), also=also)
    return Declared(_JSON.get(type_, "any"), also=also)


def _field(info: FieldInfo) -> DeclaredField:
    choices = info.validation_alias
    names = tuple(map(str, choices.choices)) if isinstance(choices, AliasChoices) else (str(info.alias),)
    value = _declared(info.annotation, tuple(info.metadata))
    since = next((each.month for each in info.metadata if isinstance(each, Since)), "")
    return DeclaredField(names, value, info.is_required(), value.nullable or value.type == "any", since)


_TYPES: dict[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
}


def shape_errors(operation: Operation[Any], response: Any) -> list[str]:
    """A sentence about each field of `response` that is missing or has the wrong type. No sentence quotes a value."""
    shape = declared(operation.response.shape)
    if operation.response.form == "list":
        shape = Declared("array", items=shape)
    if operation.response.form == "page":
        response = response.get("content") if isinstance(response, dict) else None
        shape = Declared("array", items=shape)
    return sorted(set(_errors(shape, response, "")))


def _errors(shape: Declared, value: Any, at: str) -> Iterator[str]:
    if shape.type == "any" or (value is None and shape.nullable):
        return
    fits = isinstance(value, _TYPES[shape.type]) and (shape.type == "boolean" or not isinstance(value, bool))
    if not fits:
        if shape.also is None:
            yield f"{at or 'the response'} is not of type {shape.type}"
        else:
            yield from _errors(shape.also, value, at)
        return
    if shape.items is not None:
        for each in value:
            yield from _errors(shape.items, each, f"{at}[]")
    for each_field in shape.fields:
        name = next((each for each in each_field.names if value.get(each) is not None), None)
        where = f"{at}.{each_field.names[0]}" if at else each_field.names[0]
        if name is not None:
            yield from _errors(each_field.value, value[name], where)
        elif each_field.required and not each_field.nullable:
            yield f"{where} is missing"
