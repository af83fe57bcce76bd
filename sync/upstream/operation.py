"""How an upstream service's operation is declared: what the program sends, and what it needs from the response.

Each operation is declared once. Every call goes through its declaration, so calls and declarations cannot diverge.
`prisoner-to-nomis contracts check` compares the declarations with the documents that the services publish.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import orjson

from sync.errors import NotUnderstood
from sync.settings.upstreams import UpstreamName
from sync.upstream.responses import Body, Model, Page, parse_list, parse_page, parse_response
from sync.upstream.transport import Refusal, ServiceClient, segment

T = TypeVar("T")
#: How a response is laid out: empty, one record, a list of records, or a page of them.
Form = Literal["empty", "one", "list", "page"]
Asked = Mapping[str, int | str] | None
_PARAMETER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class ResponseSpec(Generic[T]):
    """Which parts of a response are read, and how.

    shape: the model of one record (a `Response`, a `TypedDict` or a plain type). form: how the records are laid out.
    parse: converts the decoded JSON to the result. none_on_404: whether the result for an absent record is None.
    or_list: whether newer versions of the service respond with a list instead of one record; the program then reads
    both forms.
    """

    shape: Any
    form: Form
    parse: Callable[[Any, ServiceClient, str, str, Asked], T]
    none_on_404: bool = False
    or_list: bool = False


def one(model: type[Model]) -> ResponseSpec[Model]:
    """A response that is one record."""

    def parse(response: Any, client: ServiceClient, method: str, path: str, asked: Asked) -> Model:
        return parse_response(model, response, client, method, path, asked=asked)

    return ResponseSpec(model, "one", parse)


def optional(model: type[Model]) -> ResponseSpec[Model | None]:
    """A response that is one record. The result is None if the service says that it does not have the record."""

    def parse(response: Any, client: ServiceClient, method: str, path: str, asked: Asked) -> Model | None:
        return None if response is None else parse_response(model, response, client, method, path, asked=asked)

    return ResponseSpec(model, "one", parse, none_on_404=True)


def written(model: type[Model]) -> ResponseSpec[Model]:
    """A response with the record that a write created or changed. If it is unreadable, the outcome is unknown."""

    def parse(response: Any, client: ServiceClient, method: str, path: str, asked: Asked) -> Model:
        return parse_response(model, response, client, method, path, writes=True, asked=asked)

    return ResponseSpec(model, "one", parse)


def rows(model: type[Model]) -> ResponseSpec[tuple[Model, ...]]:
    """A response that is a list of records."""
    return ResponseSpec(
        model, "list", lambda response, client, method, path, _: parse_list(model, response, client, method, path)
    )


def paged(model: type[Model]) -> ResponseSpec[Model]:
    """A response that is a page of records, which are parsed one by one: see `Operation.page` and `Operation.pages`."""
    return ResponseSpec(model, "page", one(model).parse)


def unparsed(shape: Any, form: Form = "one", *, none_on_404: bool = False, or_list: bool = False) -> ResponseSpec[Any]:
    """A response whose result is the decoded JSON itself. The caller reads the fields that `shape` names."""
    return ResponseSpec(shape, form, lambda response, *_: response, none_on_404, or_list)


#: Nothing is read, since the status says everything.
EMPTY: ResponseSpec[None] = ResponseSpec(None, "empty", lambda *_: None)


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """One operation: its method and path template, and everything that the program relies on.

    response: which parts of the response are read. role: the role that the client needs, without `ROLE_`, or None if
    any token will do. body: the model of the request body, or the type of a bare list. query: the parameters that are
    always sent, in addition to `page` and `size` for a page. optional_query: the parameters that are not always sent.
    renamed_query: the new names of parameters by their old names; both are sent. statuses: the error statuses that the
    program distinguishes, in addition to 404 where absence is not a failure. since, until: the months (`2023-10`) in
    which the service gained and lost the operation, for operations that the program can do without. headers,
    no_look_up, may_lack_route: see `ServiceClient.call`.
    """

    service: UpstreamName
    method: str
    path: str
    response: ResponseSpec[T]
    role: str | None = None
    body: Any = None
    query: tuple[str, ...] = ()
    optional_query: tuple[str, ...] = ()
    renamed_query: Mapping[str, str] = field(default_factory=dict)
    statuses: tuple[int, ...] = ()
    since: str = ""
    until: str = ""
    headers: Mapping[str, str] | None = None
    no_look_up: bool = False
    may_lack_route: bool = False
    #: The names of the parameters in the path, in order.
    parameters: tuple[str, ...] = field(init=False)
    _format: str = field(init=False, repr=False)
    _query_names: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", tuple(_PARAMETER.findall(self.path)))
        object.__setattr__(self, "_format", _PARAMETER.sub("%s", self.path))
        paging = ("page", "size") if self.response.form == "page" else ()
        names = {*paging, *self.query, *self.optional_query, *self.renamed_query, *self.renamed_query.values()}
        object.__setattr__(self, "_query_names", frozenset(names))

    def path_of(self, *ids: object) -> str:
        """The path with its parameters replaced by `ids`, in order."""
        return self._format % tuple(map(segment, ids))

    def call(
        self,
        client: ServiceClient,
        *ids: object,
        query: Mapping[str, object] | None = None,
        body: object = None,
        asked: Asked = None,
        refusal: Refusal | None = None,
    ) -> T:
        """Makes the call and reads the response.

        ids: the values of the path's parameters. body: the body of the request, as a `Body` or as JSON. asked: the
        values that the request named and the response must repeat, by the JSON names of the response's fields. Raises
        `UpstreamError`, as `ServiceClient.call` and `parse_response` do.
        """
        path = self.path_of(*ids)
        return self.response.parse(self._send(client, path, query, body, refusal), client, self.method, path, asked)

    def read_raw(self, client: ServiceClient, *ids: object, query: Mapping[str, object] | None = None) -> Any:
        """The decoded JSON of a read, unchecked, or None if `none_on_404` applies. Raises `UpstreamError`."""
        return self._send(client, self.path_of(*ids), query, None, None)

    def parse(self, client: ServiceClient, element: object) -> T:
        """Parses one element of a page. Raises `UpstreamError`."""
        return self.response.parse(element, client, self.method, self.path, None)

    def page(self, client: ServiceClient, *ids: object, query: Mapping[str, object], number: int, size: int) -> Page:
        """Page `number` (from 0) of a list; the service may make the pages smaller than `size`.

        Raises `UpstreamError`: `NotUnderstood` if the response is not that page or contradicts itself.
        """
        path = self.path_of(*ids)
        response = self._send(client, path, {**query, "page": number, "size": size}, None, None)
        try:
            return parse_page(response, number, size)
        except ValueError as error:
            message = f"page {number} cannot be right: {error}"
            raise NotUnderstood(client.name, self.method, path, status=200, message=message) from None

    def pages(self, client: ServiceClient, *ids: object, query: Mapping[str, object], size: int = 1000) -> Iterator[T]:
        """Yields every record of a list. Each page is read when its first record is needed.

        Raises `NotUnderstood` if a record may have been missed: the list became shorter, or a record appeared twice.
        """
        path = self.path_of(*ids)
        number, total = 0, 0
        seen: set[bytes] = set()
        while True:
            page = self.page(client, *ids, query=query, number=number, size=size)
            found = {orjson.dumps(each, option=orjson.OPT_SORT_KEYS) for each in page.content}
            if page.total_elements < total or len(found) < len(page.content) or not found.isdisjoint(seen):
                message = f"elements moved or appeared twice while the pages were read: see page {number}"
                raise NotUnderstood(client.name, self.method, path, status=200, message=message)
            for each in page.content:
                yield self.response.parse(each, client, self.method, path, None)
            if page.last:
                return
            seen |= found
            number, total = number + 1, page.total_elements

    def _send(
        self,
        client: ServiceClient,
        path: str,
        query: Mapping[str, object] | None,
        body: object,
        refusal: Refusal | None,
    ) -> Any:
        if query and not query.keys() <= self._query_names:
            raise ValueError(f"{self.method} {self.path}: undeclared parameters {query.keys() - self._query_names}")
        if isinstance(body, Body):
            body = body.as_json()
        return client.call(
            self.method,
            path,
            query=query,
            body=body,
            headers=self.headers,
            none_on_404=self.response.none_on_404,
            refusal=refusal,
            no_look_up=self.no_look_up,
            may_lack_route=self.may_lack_route,
        )


@dataclass(frozen=True, slots=True)
class MappedValues:
    """The values that a rule knows or sends for a field.

    field: the field's name (`visitRestriction`), with dots for an inner field. has_default: whether the rule also
    covers any other value. older: the values that only older versions of the service have.
    """

    operation: Operation[Any]
    field: str
    values: frozenset[str]
    has_default: bool = False
    older: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ContractProbe:
    """A harmless read that shows whether the client has the required role, and whether the response is as declared.

    ids, query: the parameters of the call. record: the name of a domain, or None. If it is set, the probe reads the
    last record of this domain that the program created in NOMIS; `ids` are used if there is no such record.
    """

    operation: Operation[Any]
    ids: tuple[str, ...] = ()
    query: Mapping[str, object] = field(default_factory=dict)
    record: str | None = None
