"""The mapping service, which knows which NOMIS record belongs to which DPS record.

The service accepts a POST of a pair of ids that it already has. To a different pair that contains either id, it
responds with status 409 (400 for activities).

A look-up returns the mapping as the service wrote it, since findings and telemetry use the service's names for the
fields. A mapping is accepted only if it names both records and, after a look-up by id, one of them is the record that
was asked for. Any other mapping raises `NotUnderstood`, because a mapping prevents a creation and decides which record
is changed or deleted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field, create_model

from sync.errors import NotUnderstood, UpstreamError
from sync.settings.upstreams import UpstreamName
from sync.upstream.operation import EMPTY, Operation, ResponseSpec, optional, unparsed
from sync.upstream.responses import RecordNumber, Response, parse_response
from sync.upstream.transport import ServiceClient

MappingBody = Mapping[str, Any]

#: An id in text form, such as the reference of a visit.
TextId = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class MappingIds:
    """The ids of a DPS record and of the NOMIS record that it belongs to, all as text."""

    dps_id: str
    nomis_ids: tuple[str, ...]

    @property
    def nomis_text(self) -> str:
        """The NOMIS ids as one string, such as `8811002` or `33012 SENTENCE`."""
        return " ".join(self.nomis_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mappings:
    """The mappings of one kind of record.

    path: their path on the service. role: the role that the calls need. model: the fields that a mapping must have to
    be accepted. dps, nomis: the fields that name the DPS record and the NOMIS record. by_dps, by_nomis: the paths of
    the look-ups, below `path`, with these fields in braces; `by_nomis` is None if the service has no look-up by NOMIS
    ids, and all mappings are listed instead. numbers: the fields that are posted as numbers although our mappings have
    them as text. has_type: whether a mapping has a field `mappingType`. is_listed: whether the program lists all
    mappings. is_deleted: whether the service can delete mappings individually.
    """

    path: str
    role: str
    model: type[Response]
    dps: str
    nomis: tuple[str, ...]
    by_dps: str
    by_nomis: str | None
    numbers: frozenset[str] = frozenset()
    has_type: bool = True
    is_listed: bool = False
    is_deleted: bool = True
    #: The calls by name, such as `get` and `post`.
    operations: Mapping[str, Operation[Any]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "operations", self._declare())

    def _declare(self) -> Mapping[str, Operation[Any]]:
        def declare(method: str, below: str, response: ResponseSpec[Any], body: Any = None) -> Operation[Any]:
            path = f"{self.path}/{below}" if below else self.path
            statuses = (409,) if method == "POST" else ()
            return Operation(UpstreamName.MAPPING, method, path, response, role=self.role, body=body, statuses=statuses)

        sent: dict[str, Any] = {"mapping_type": (str, ...)} if self.has_type else {}
        posted = create_model(self.model.__name__, __base__=self.model, **sent)
        declared = {
            "get": declare("GET", self.by_dps, unparsed(self.model)),
            "find": declare("GET", self.by_dps, unparsed(self.model, none_on_404=True)),
            "post": declare("POST", "", unparsed(None, "empty"), posted),
        }
        if self.by_nomis is not None:
            declared["find_by_nomis_ids"] = declare("GET", self.by_nomis, unparsed(self.model, none_on_404=True))
        if self.is_listed:
            declared["list"] = declare("GET", "", unparsed(self.model, "list"))
        if self.is_deleted:
            declared["delete"] = declare("DELETE", self.by_dps, EMPTY)
        return declared

    def get(self, client: ServiceClient, dps_id: int | str) -> MappingBody:
        """The mapping of a DPS record. Raises `UpstreamError`, with status 404 if there is no mapping."""
        found = self._read(client, "get", dps_id, asked={self.dps: dps_id})
        assert found is not None
        return found

    def find(self, client: ServiceClient, dps_id: int | str) -> MappingBody | None:
        """The mapping of a DPS record, or None if there is no mapping."""
        return self._read(client, "find", dps_id, asked={self.dps: dps_id})

    def find_by_nomis_ids(self, client: ServiceClient, *nomis_ids: int | str) -> MappingBody | None:
        """The mapping of a NOMIS record, or None if there is no mapping. The ids are in the order of `nomis`."""
        ids = dict(zip(self.nomis, nomis_ids, strict=True))
        if self.by_nomis is not None:
            in_path = self.operations["find_by_nomis_ids"].parameters
            return self._read(client, "find_by_nomis_ids", *(ids[name] for name in in_path), asked=ids)
        wanted = tuple(map(str, nomis_ids))
        return next((each for each in self.list_all(client) if self.ids(each).nomis_ids == wanted), None)

    def list_all(self, client: ServiceClient) -> Sequence[MappingBody]:
        """All mappings of this kind. Only for kinds with `is_listed`."""
        body = self.operations["list"].call(client)
        if not isinstance(body, list):
            raise NotUnderstood(client.name, "GET", self.path, status=200, message="the response is not a list")
        return [self._checked(each, client, self.path, {}) for each in body]

    def post(self, client: ServiceClient, body: MappingBody) -> None:
        """Saves the mapping `body`, without the fields that are None.

        The service responds with an empty body. Any other response body raises `NotUnderstood`: the mapping may or may
        not have been saved.
        """
        posted = {
            name: int(value) if name in self.numbers else value for name, value in body.items() if value is not None
        }
        response = self.operations["post"].call(client, body=posted)
        if response is not None:
            message = "the response is not empty, so the mapping may not have been saved"
            raise NotUnderstood(client.name, "POST", self.path, status=201, message=message, outcome_unknown=True)

    def delete(self, client: ServiceClient, dps_id: int | str) -> None:
        """Deletes the mapping of a DPS record, if there is one. Only for kinds with `is_deleted`."""
        self.operations["delete"].call(client, dps_id)

    def ids(self, mapping: Mapping[str, object]) -> MappingIds:
        """The ids of the two records that belong together according to `mapping`."""
        return MappingIds(str(mapping[self.dps]), tuple(str(mapping[name]) for name in self.nomis))

    def _read(
        self, client: ServiceClient, call: str, *ids: int | str, asked: Mapping[str, int | str]
    ) -> MappingBody | None:
        operation = self.operations[call]
        body = operation.call(client, *ids)
        return None if body is None else self._checked(body, client, operation.path_of(*ids), asked)

    def _checked(self, body: Any, client: ServiceClient, path: str, asked: Mapping[str, int | str]) -> MappingBody:
        """Returns `body`. Raises `NotUnderstood` unless it is a mapping of this kind with the ids in `asked`."""
        try:
            parse_response(self.model, body, client, "GET", path, asked=asked)
        except UpstreamError as error:
            raise NotUnderstood(client.name, "GET", path, status=200, message=error.message) from None
        checked: MappingBody = body
        return checked


class _Location(Response):
    dps_location_id: str
    nomis_location_id: RecordNumber


_LOCATION = Operation(
    UpstreamName.MAPPING,
    "GET",
    "/mapping/locations/dps/{dpsLocationId}",
    optional(_Location),
    role="NOMIS_MAPPING_API__SYNCHRONISATION__RW",
    since="2024-07",
)


def nomis_location(mapping: ServiceClient, dps_location_id: str) -> int | None:
    """The NOMIS number of the internal location whose DPS id is `dps_location_id`, or None if it is not mapped.

    The service has had this endpoint since July 2024.
    """
    found = _LOCATION.call(mapping, dps_location_id, asked={"dpsLocationId": dps_location_id})
    return None if found is None else found.nomis_location_id
