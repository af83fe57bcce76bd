"""Texts for people are in plain British English, without certain phrases that read like a translation.

The tests read the documents, templates and manifests, and every docstring, comment and message in the program. The help
texts are read twice: as messages, and on the generated pages in `doc/`.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: A pattern for each habit, with what to write instead.
HABITS = {
    r"(?:tells?|told|telling) (?:of|again|apart|how|what|which|from|by)": "say, show, report, distinguish",
    r"(?<!here\s)(?:is|are|was|were) no(?! longer| more| later| earlier)": "'is not a …'; 'there is no …' is fine",
    r"(?<!here\s)(?:is|are|was|were) (?-i:none)": "'is not one'; 'there is none' is fine",
    r"whoever": "name the person or the thing: 'the last shard', 'the client'",
    r"(?:go|goes|gone|going|went) on(?! to)": "continue, resume",
    r"mend(?:s|ed|ing)?": "fix",
    r"of (?:one's|its|his|their|our|your) own": "'its own …', 'a separate …', 'a local …'",
    r"beside": "next to, as well as",
    r"so many(?! that)": "give the number a name: 'at most N'",
    r"(?:take|takes|taken|took) to be": "count as, assume",
    r"in place of": "instead of",
    r"answers? (?:with|of|from)": "'responds with', 'the response of'",
    r"(?:is|are) away": "'is unavailable'",
    r"put off": "defer, postpone",
    r"keeps? house": "say what it does: 'redrives the dead-letter queues'",
    r"at present": "now, currently",
    r"speaks? against": "'an objection', 'despite objections'",
    r"is said too": "'also shows …'",
    r"is no news": "'is expected'",
    r"anew": "again",
    r"also where": "even if",
    r"(?-i:None) where": "None if",
    r"for want of": "for lack of, without",
    r"all the same(?! to)": "anyway, still",
}
_HABITS = {
    re.compile(rf"\b(?:{habit})\b".replace(" ", r"\s+"), re.IGNORECASE): better for habit, better in HABITS.items()
}
_CODE = re.compile(r'```.*?```|`[^`\n]*`|\bis none (?:else|%})|class="[^"]*"', re.DOTALL)


def _documents() -> Iterator[Path]:
    yield from (ROOT / "README.md", ROOT / "CHANGELOG.md")
    for folder, pattern in (("doc", "*.md"), ("templates", "*.j2"), ("cronjobs", "*.yaml"), ("cronjobs", "*.md")):
        yield from sorted((ROOT / folder).rglob(pattern))


def _modules() -> Iterator[Path]:
    for folder in ("sync", "jobs", "reports", "sandbox"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def _prose_of_a_document(text: str) -> Iterable[tuple[int, str]]:
    """The paragraphs of a document, without its code, each as (number of its first line, text)."""
    text = _CODE.sub(lambda code: "\n" * code[0].count("\n"), text)
    return [(text.count("\n", 0, each.start()) + 1, each[0]) for each in re.finditer(r"(?:.+\n?)+", text)]


def _prose_of_a_module(text: str) -> Iterator[tuple[int, str]]:
    """The docstrings, messages and comments of a module, each as (number of its first line, text)."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, _CODE.sub("", node.value)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def _habits(path: Path, prose: Iterable[tuple[int, str]]) -> list[str]:
    """The places where a habit is found, each with what to write instead."""
    found = [
        (line + text.count("\n", 0, match.start()), " ".join(match[0].split()), better)
        for line, text in prose
        for habit, better in _HABITS.items()
        for match in habit.finditer(text)
    ]
    return [f"{path.relative_to(ROOT)}:{line}: {words!r}: {better}" for line, words, better in found]


def test_documents_templates_and_manifests_are_in_plain_english() -> None:
    """The documents, templates and manifests contain none of the phrases in `HABITS`."""
    assert [habit for path in _documents() for habit in _habits(path, _prose_of_a_document(path.read_text()))] == []


def test_messages_help_and_docstrings_are_in_plain_english() -> None:
    """The messages, docstrings and comments of the program contain none of the phrases in `HABITS`."""
    assert [habit for path in _modules() for habit in _habits(path, _prose_of_a_module(path.read_text()))] == []


def test_habits_are_found_across_lines_and_outside_code() -> None:
    """A habit is found on any line of a paragraph or a docstring, in a message and in a comment, but not in code."""
    document = "# A\n\nThe last run\nis no run, and `goes on`.\n"
    module = '"""The shard\ngoes on."""\nX = f"{1} put off"  # whoever\n'
    where = ROOT / "doc" / "a.md"
    assert [each.rpartition(": ")[0] for each in _habits(where, _prose_of_a_document(document))] == [
        "doc/a.md:4: 'is no'"
    ]
    assert sorted(each.split(": ")[1] for each in _habits(where, _prose_of_a_module(module))) == [
        "'goes on'",
        "'put off'",
        "'whoever'",
    ]
