"""Every format of an event time that a publisher may write is read. An unreadable time is not reported as missing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.clock import LONDON, parse_event_time
from sync.errors import MalformedMessage
from sync.events.envelope import DomainEvent, read_envelope

#: 10:14:31.204 in London, in summer.
SUMMER = datetime(2023, 5, 22, 9, 14, 31, 204_000, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "2023-05-22T09:14:31.204Z",
        "2023-05-22T09:14:31.204z",
        "2023-05-22t09:14:31.204z",
        "2023-05-22 09:14:31.204Z",
        "2023-05-22T09:14:31,204Z",
        "2023-05-22T09:14:31.204000000Z",
        "2023-05-22T09:14:31.2040000001Z",
        "2023-05-22T09:14:31.204+00",
        "2023-05-22T09:14:31.204+0000",
        "2023-05-22T09:14:31.204-00:00",
        "2023-05-22 09:14:31.204 +00:00",
        "2023-05-22T10:14:31.204+01",
        "2023-05-22T10:14:31.2040000+01:00",
        "2023-05-22T10:14:31.204+01:00[Europe/London]",
        "2023-05-22T10:14:31.204[Europe/London]",
        "2023-05-22T09:14:31.204Z[UTC]",
        "2023-05-22T10:14:31.204",
        " 2023-05-22T09:14:31.204Z\n",
        1_684_746_871.204,
        "1684746871.204",
        1_684_746_871_204,
        "1684746871204",
        1_684_746_871_204_000,
        [2023, 5, 22, 10, 14, 31, 204_000_000],
    ],
)
def test_every_form_of_a_time_is_read(value: object) -> None:
    """The same moment is read correctly from the formats of several serialisers.

    A time without a zone counts as London time.
    """
    assert parse_event_time(value) == SUMMER


@pytest.mark.parametrize(
    "value",
    ["yesterday", "2023-05-22", "2023-13-01T00:00:00Z", "2023-05-22T10:14:31+25:00", "2023-05-22T10:14[Mars/Base]",
     "22/05/2023 10:14", 0, 12, -1, 1e300, True, [2023, 5], [2023, 5, 22, 10, "14"], {"seconds": 1}],
)  # fmt: skip
def test_a_malformed_time_is_not_missing(value: object) -> None:
    """The error about a malformed time says that the time cannot be read, not that it is missing."""
    with pytest.raises(MalformedMessage, match="occurredAt cannot be read: "):
        event(value).required_occurred_at()


@pytest.mark.parametrize("value", [None, ""])
def test_an_absent_time_is_missing(value: object) -> None:
    """A time that is null or empty is reported as missing."""
    with pytest.raises(MalformedMessage, match="occurredAt is missing"):
        event(value).required_occurred_at()


moments = st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(year=2001 + moment.year % 98, day=1))


def _text(
    separator: str, point: str, digits: int, zone: Callable[[datetime], tuple[datetime, str]]
) -> Callable[[datetime], object]:
    def write(moment: datetime) -> str:
        local, suffix = zone(moment)
        fraction = f"{local.microsecond:06}".ljust(9, "0")[:digits]
        return f"{local:%Y-%m-%d}{separator}{local:%H:%M:%S}{point if digits else ''}{fraction}{suffix}"

    return write


def _offset(minutes: int, colon: str) -> Callable[[datetime], tuple[datetime, str]]:
    zone = timezone(timedelta(minutes=minutes))
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    return lambda moment: (moment.astimezone(zone), f"{sign}{hours:02}{colon}{rest:02}")


zones = st.one_of(
    st.sampled_from(["Z", "z", "Z[UTC]", "+00"]).map(lambda suffix: lambda moment: (moment, suffix)),
    st.builds(_offset, st.integers(-14 * 60, 14 * 60), st.sampled_from([":", ""])),
    st.just(lambda moment: (moment.astimezone(LONDON), f"{moment.astimezone(LONDON):%z}[Europe/London]")),
)
forms = st.one_of(
    st.builds(_text, st.sampled_from("Tt "), st.sampled_from(".,"), st.integers(6, 9), zones),
    st.just(lambda moment: round(moment.timestamp() * 1000) if moment.microsecond % 1000 == 0 else moment.timestamp()),
    st.just(lambda moment: f"{moment.timestamp():.6f}"),
)


@given(moments, forms)
def test_a_time_survives_being_written_and_read(moment: datetime, write: Callable[[datetime], object]) -> None:
    """In whichever format a moment is written, it is read back correctly to within two microseconds."""
    assert abs(parse_event_time(write(moment)) - moment) <= timedelta(microseconds=2)


@given(st.text(max_size=40) | st.floats() | st.integers() | st.lists(st.integers(), max_size=8))
def test_any_value_is_read_or_raises_a_value_error(value: object) -> None:
    """Any value is either read as a time with a time zone, or refused with a `ValueError`."""
    with contextlib.suppress(ValueError):
        assert parse_event_time(value).tzinfo is not None


def event(occurred_at: object) -> DomainEvent:
    """An event with `occurred_at`, which may be any JSON value, as its time."""
    text = json.dumps({"eventType": "prison-visit.booked", "occurredAt": occurred_at})
    content = read_envelope(json.dumps({"Type": "Notification", "Message": text})).content
    assert isinstance(content, DomainEvent)
    return content
