"""Whether a real response has the form that is declared."""

from collections.abc import Iterator
from typing import Any

from sync.contracts.declared import Declared, declared
from sync.upstream.operation import Operation

_TYPES: dict[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
}


def shape_errors(operation: Operation[Any], response: Any) -> list[str]:
    """The fields of a response that are missing or of another type than declared, by name and never by value."""
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
            yield f"{at or 'the response'} is not {shape.type}"
        else:
            yield from _errors(shape.also, value, at)
        return
    if shape.items is not None:
        for each in value:
            yield from _errors(shape.items, each, f"{at}[]")
    for field in shape.fields:
        name = next((each for each in field.names if value.get(each) is not None), None)
        where = f"{at}.{field.names[0]}" if at else field.names[0]
        if name is not None:
            yield from _errors(field.value, value[name], where)
        elif field.required and not field.nullable:
            yield f"{where} is missing"
