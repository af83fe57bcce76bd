"""The examples in `doc/architecture.md`, added to a copy of the program."""

from __future__ import annotations

import re
import shutil
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^ *```(python|diff)\n *# (\S+)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def add_example(heading: str, folder: Path) -> None:
    """Copies the program to `folder`, and adds an example from `doc/architecture.md` to the copy.

    `heading` is the heading of the section with the example, which consists of new files and diffs.
    """
    for room in ("jobs", "reports", "sync", "templates"):
        shutil.copytree(ROOT / room, folder / room)
    page = (ROOT / "doc" / "architecture.md").read_text(encoding="utf-8")
    example = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    for language, path, block in _BLOCK.findall(example):
        _change(folder / path, textwrap.dedent(block), language)


def touched(folder: Path) -> set[Path]:
    """The Python files in a copy of the program that are new or differ from the originals."""
    copies = [path.relative_to(folder) for path in folder.rglob("*.py")]
    return {path for path in copies if not (ROOT / path).exists() or _differs(ROOT / path, folder / path)}


def _change(path: Path, block: str, language: str) -> None:
    """Writes a new file, or applies a diff at the place that its unchanged lines mark."""
    if language == "python":
        path.parent.mkdir(exist_ok=True)
        path.write_text(block, encoding="utf-8")
        return
    # On the page, an unchanged empty line of a diff has lost its leading space.
    lines = [line if line.strip() else f" {line}" for line in block.splitlines(keepends=True)]
    old = "".join(line[1:] for line in lines if not line.startswith("+"))
    new = "".join(line[1:] for line in lines if not line.startswith("-"))
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{path.name} does not have {old}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def _differs(one: Path, other: Path) -> bool:
    return one.read_bytes() != other.read_bytes()
