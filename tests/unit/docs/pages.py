"""The documents as tests see them: blocks of code, commands, links, headings, rows of tables."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGES = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))

_FENCE = re.compile(r"^```(\w*)$")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_COMMAND_ENDS = ("|", ">", ">>", ";", "&", "&&", "||")


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is where its text begins."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """Where it stands, for people."""
        return place(self.page, self.line)


@dataclass(frozen=True)
class Command:
    """One `headgate …` of a page, in words as a shell would make them, without `headgate`."""

    place: str
    words: tuple[str, ...]


def place(page: Path, line: int) -> str:
    """Return file and line."""
    return f"{page.relative_to(ROOT)}:{line}"


def blocks(*languages: str) -> list[Block]:
    """Return the blocks of all pages in these languages, all blocks if none is named."""
    return [block for page in PAGES for block in blocks_of(page) if not languages or block.language in languages]


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the blocks of one page; one that is not closed is an error."""
    language: str | None = None
    first, lines = 0, list[str]()
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fence = _FENCE.match(line)
        if fence is None:
            lines.append(line)
        elif language is None:
            language, first, lines = fence[1], number + 1, []
        else:
            assert fence[1] == "", f"{place(page, number)}: a block begins in a block"
            yield Block(page, first, language, "\n".join(lines) + "\n")
            language = None
    assert language is None, f"{place(page, first)}: this block is not closed"


def prose(page: Path) -> list[tuple[int, str]]:
    """Return the lines outside of blocks, with their numbers."""
    lines = page.read_text(encoding="utf-8").splitlines()
    inside = {
        number
        for block in blocks_of(page)
        for number in range(block.line - 1, block.line + len(block.text.splitlines()) + 1)
    }
    return [(number, line) for number, line in enumerate(lines, start=1) if number not in inside]


def commands() -> list[Command]:
    """Return every `headgate …` of the pages: in blocks of shell, in examples of help, and in running text."""
    found = []
    for block in blocks("sh", "text"):
        for number, line in enumerate(block.text.splitlines(), start=block.line):
            if block.language == "sh" or re.match(r"^ +headgate ", line):
                found += [Command(place(block.page, number), words) for words in shell_words(line)]
    for page in PAGES:
        for number, line in prose(page):
            for quoted in re.findall(r"`(headgate [a-z][^`]*)`", line):
                found += [Command(place(page, number), words) for words in shell_words(quoted)]
    return [Command(each.place, each.words[1:]) for each in found if each.words[0] == "headgate"]


def shell_words(line: str) -> list[tuple[str, ...]]:
    """Split a line of shell into its commands, each in words, without comments and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    redirected = False
    for word in lexer:
        if word in _COMMAND_ENDS:
            redirected = word in {">", ">>"}
            found += [] if redirected else [[]]
        elif redirected:
            redirected = False
        else:
            found[-1].append(word)
    return [tuple(words) for words in found if words]


def links(page: Path) -> list[tuple[int, str]]:
    """Return the targets of links outside of blocks, with their lines."""
    return [(number, target) for number, line in prose(page) for target in _LINK.findall(line)]


def anchors(page: Path) -> set[str]:
    """Return what a link can name after `#`, as GitHub and others make it of headings."""
    headings = [line.lstrip("#").strip() for _, line in prose(page) if re.match(r"^#+ ", line)]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rows(page: Path, heading: str) -> list[list[str]]:
    """Return the cells of the table whose first column is called `heading`, without its head."""
    found: list[list[str]] = []
    inside = False
    for _, line in prose(page):
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")] if line.startswith("|") else []
        inside = bool(cells) and (inside or cells[0] == heading)
        if inside:
            found.append(cells)
    return found[2:]
