"""Finds the endpoint for a path in a tree of segments, in which literal segments take precedence over parameters."""

from __future__ import annotations

from typing import Generic, TypeVar
from urllib.parse import unquote

Target = TypeVar("Target")


class _Node(Generic[Target]):
    """A node of the tree: the nodes below it and, by method, the target and parameter names of paths that end here."""

    __slots__ = ("by_method", "literals", "parameter")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[Target]] = {}
        self.parameter: _Node[Target] | None = None
        self.by_method: dict[str, tuple[Target, tuple[str, ...]]] = {}


class Router(Generic[Target]):
    """Templates such as `/visits/{visitId}` with one target for each method."""

    def __init__(self) -> None:
        """Starts without templates."""
        self._root: _Node[Target] = _Node()

    def add(self, method: str, template: str, target: Target) -> None:
        """Adds one endpoint.

        Raises:
            ValueError: the template already has an endpoint for this method.
        """
        node = self._root
        names: list[str] = []
        for segment in template.strip("/").split("/"):
            if segment.startswith("{"):
                names.append(segment[1:-1])
                if node.parameter is None:
                    node.parameter = _Node()
                node = node.parameter
            else:
                node = node.literals.setdefault(segment, _Node())
        if method in node.by_method:
            raise ValueError(f"{method} {template} already has an endpoint")
        node.by_method[method] = (target, tuple(names))

    def find(self, path: str) -> tuple[dict[str, tuple[Target, tuple[str, ...]]], list[str]] | None:
        """Returns the targets for a path by method, each with its parameter names, and the values of the parameters.

        The result is None if no template fits.
        """
        values: list[str] = []
        node = self._descend(self._root, path.strip("/").split("/"), 0, values)
        return None if node is None else (node.by_method, values)

    def _descend(self, node: _Node[Target], segments: list[str], depth: int, values: list[str]) -> _Node[Target] | None:
        if depth == len(segments):
            return node if node.by_method else None
        segment = segments[depth]
        literal = node.literals.get(segment)
        if literal is not None:
            found = self._descend(literal, segments, depth + 1, values)
            if found is not None:
                return found
        if node.parameter is None or not segment:
            return None
        values.append(unquote(segment))
        found = self._descend(node.parameter, segments, depth + 1, values)
        if found is None:
            values.pop()
        return found
