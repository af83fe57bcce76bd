"""Lists the domains, and collects what they declare and require, such as queues, event types, roles and resyncs."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pkgutil import walk_packages
from types import ModuleType
from typing import Any, TypeVar

import structlog

import sync.domains
import sync.upstream
from sync.domains import (
    activities,
    adjustments,
    appointments,
    incentives,
    visits,
)
from sync.domains.declaration import Domain
from sync.domains.duplicate_rows import DuplicateRows, RowKind, read_duplicate_rows
from sync.domains.repair_declaration import Resync
from sync.settings.declaration import Settings
from sync.settings.upstreams import UpstreamName
from sync.settings.variables import DELETE_ALL_VARIABLE, feature_variables
from sync.store.findings import Finding
from sync.upstream.operation import ContractProbe, MappedValues, Operation

_T = TypeVar("_T")

#: The packages of the domains, in the order of their queues.
_PACKAGES = (
    visits,
    incentives,
    activities,
    appointments,
    adjustments,
)
#: The domains by name.
DOMAINS: Mapping[str, Domain] = {package.DOMAIN.name: package.DOMAIN for package in _PACKAGES}


def domain_of_queue(queue: str) -> Domain:
    """The domain whose queue has the id `queue`, such as `visit`."""
    return next(domain for domain in DOMAINS.values() if domain.queue == queue)


def domain_of_record(record: str) -> Domain:
    """The domain whose records are called `record` in telemetry and the database, such as `sentencing-adjustment`."""
    return next(domain for domain in DOMAINS.values() if domain.record == record)


def event_types(queue: str) -> tuple[str, ...]:
    """The event types that a queue receives, as in the filter of its subscription."""
    return tuple(domain_of_queue(queue).handlers)


def queue_of(event_type: str) -> str | None:
    """The id of the queue for events of the type `event_type`, or None if the program does not handle that type."""
    return next((domain.queue for domain in DOMAINS.values() if event_type.lower() in domain.handlers), None)


def row_kinds() -> Mapping[str, RowKind]:
    """The kinds of rows that NOMIS may hold twice, by the word for a row, such as `allocation`."""
    updates = (update for domain in DOMAINS.values() for update in domain.updates)
    return {update.rows.what: update.rows for update in updates if update.rows is not None}


def duplicate_rows_of(finding: Finding) -> DuplicateRows:
    """The kind and key of the rows that a finding of kind `non-unique` is about."""
    kind = next(each for each in row_kinds().values() if finding.key.startswith(each.key_prefix))
    return read_duplicate_rows(kind, finding)


def resync_kinds() -> Mapping[str, tuple[Domain, Resync]]:
    """The kinds of DPS records that an operator can write to NOMIS again, each with its domain.

    The keys are the words that the operator types, such as `visit`.
    """
    return {resync.kind: (domain, resync) for domain in DOMAINS.values() for resync in domain.resyncs}


def operations(*further: ModuleType) -> tuple[Operation[Any], ...]:
    """All operations that the program calls: those of the mappings, and those that the client modules declare.

    further: packages with client modules, in addition to `sync.domains` and `sync.upstream`.
    """
    mappings = (each for domain in DOMAINS.values() for each in domain.mappings.operations.values())
    return tuple({id(each): each for each in (*mappings, *_variables(Operation, *further))}.values())


def mapped_values() -> tuple[MappedValues, ...]:
    """The fields whose values the rules of the domains map, and those values."""
    return tuple({id(each): each for each in _variables(MappedValues)}.values())


def probes() -> Mapping[UpstreamName, ContractProbe]:
    """The harmless read that probes a service, for each service that has one.

    Prisoner search does not have such a read, since each call that the program makes to it has an effect.
    """
    return {each.operation.service: each for each in _variables(ContractProbe)}


def _variables(type_: type[_T], *further: ModuleType) -> Iterator[_T]:
    """All objects of `type_` in module variables, directly or in a dict or tuple.

    The modules are those of `sync.domains`, `sync.upstream` and the packages in `further`.
    """
    for package in (sync.domains, sync.upstream, *further):
        for module in walk_packages(package.__path__, f"{package.__name__}."):
            for value in vars(import_module(module.name)).values():
                held = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else (value,)
                yield from (each for each in held if isinstance(each, type_))


def required_roles(service: UpstreamName) -> frozenset[str]:
    """The roles that the client of a service needs, without `ROLE_`. A call without a role needs only a valid token.

    The roles for endpoints that only newer versions of the service have are included, so that a reconciliation can use
    the endpoints from the day of the upgrade. The roles for endpoints that newer versions no longer have are left out.
    """
    lasting = (each for each in operations() if each.service is service and not each.until)
    return frozenset(each.role for each in lasting if each.role is not None)


def missing_roles(service: UpstreamName, authorities: frozenset[str]) -> list[str]:
    """The required roles of a service that are missing from `authorities` (`ROLE_…`), in alphabetical order."""
    return sorted(role for role in required_roles(service) if f"ROLE_{role}" not in authorities)


def unknown_switches(settings: Settings) -> Mapping[str, bool]:
    """The variables that look like event switches but match no event type, with their values.

    They have no effect. A variable that is false was probably meant to switch an event off, but does not.
    """
    known = {
        name for domain in DOMAINS.values() for event_type in domain.handlers for name in feature_variables(event_type)
    }
    known.add(DELETE_ALL_VARIABLE)
    return {name: on for name, on in settings.event_switches.items() if name not in known}


def warn_of_unknown_switches(settings: Settings) -> None:
    """Logs a warning about switches that are off but match no event, for example because of a typing error."""
    void = [name for name, on in unknown_switches(settings).items() if not on]
    if void:
        structlog.get_logger("sync.domains.registry").warning(
            "unknown-feature-switch", variables=void, reason="they match no event; doc/events.md lists the events"
        )
