"""The error of a failed call contains no text that a person may have written in the request."""

from __future__ import annotations

import html
import json
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sync.errors import NON_UNIQUE_TEXT
from sync.upstream.error_bodies import MESSAGE_CHARACTERS, own_words

COMMENT = "Asked to see his sister, Ann Smith [both girls]; urgent"


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        (
            f"Field error in object 'visit' on field 'comment': rejected value [{COMMENT}]; codes [Size.comment]",
            "Field error in object 'visit' on field 'comment': rejected value […]; codes [Size.comment]",
        ),
        (f"Bad text: {COMMENT}", "Bad text: …"),
        (f"Bad text: {COMMENT[:25]}", "Bad text: …"),
        (f"Bad text: {COMMENT.upper()}!", "Bad text: …!"),
        (f'{{"comment":{json.dumps(COMMENT)}}}', '{"comment":"…"}'),
        ("rejected value [somebody else's text; with codes] ; codes [x]", "rejected value […] ; codes [x]"),
        ("Rejected value [text]", "Rejected value […]"),
        ("rejected value [somebody else's text", "rejected value […]"),
        ("(rejected value [x], y]) z", "(rejected value […]"),
        ("Room MDI-1-1 is not in MDI at 2023-05-22T09:00:00", "Room MDI-1-1 is not in MDI at 2023-05-22T09:00:00"),
        ("the \x1b[31mcolour\x00 of\nlines", "the [31mcolour of lines"),
    ],
)
def test_sent_texts_are_removed(message: str, kept: str) -> None:
    """Texts from the request are removed from an error however they are quoted.

    Codes, rooms, times and field names stay.
    """
    body = {"comment": COMMENT, "room": "MDI-1-1", "prisonId": "MDI", "start": "2023-05-22T09:00:00"}
    assert own_words(message, body) == kept


@pytest.mark.parametrize(
    "quote",
    [
        html.escape,
        lambda text: html.escape(html.escape(text)),
        json.dumps,
        lambda text: json.dumps(json.dumps(text)),
        repr,
        urllib.parse.quote,
        lambda text: text.replace("'", "''"),
        lambda text: text[12:],
        lambda text: text[5:40],
    ],
)
def test_an_escaped_or_cut_text_is_removed(quote: Callable[[str], str]) -> None:
    """Text from the request is removed from an error even if it is quoted in escaped form or only in part."""
    comment = 'Sees O\'Brien & Son about <the> "will"; José comes too'
    kept = own_words(f"Could not execute: {quote(comment)} at MDI", {"comment": comment})
    assert kept.startswith("Could not execute")
    assert not [word for word in ("Brien", "about", "will", "Jos", "comes") if word in kept]


def test_a_word_that_looks_like_a_code_is_removed() -> None:
    """In a field that people fill in, even a word that looks like a code is removed."""
    assert (
        own_words("comment ABSCONDED at MDI", {"note": {"commentText": "ABSCONDED"}, "id": "MDI"}) == "comment … at MDI"
    )


def test_texts_that_rules_search_for_are_kept() -> None:
    """The words by which rules recognise duplicate rows are kept in an error.

    They are kept even if the request contains some of them, or if they come late in a long message.
    """
    for message in (f"Internal error: {NON_UNIQUE_TEXT}: 2", "x" * 2000 + NON_UNIQUE_TEXT):
        kept = own_words(message, {"comment": "unique result"})
        assert NON_UNIQUE_TEXT in kept
        assert len(kept) < MESSAGE_CHARACTERS + 100


@given(st.text(st.characters(categories=("L", "Z", "P")), min_size=3, max_size=80).map(str.strip))
def test_no_comment_is_stored(comment: str) -> None:
    """No comment of at least three characters remains in the text of an error, whatever the comment contains."""
    assume(len(comment) >= 3)
    kept = own_words(f"7: rejected value [{comment}]; codes 8", {"comment": comment})
    assert comment not in kept.replace("rejected value […]; codes", "")
