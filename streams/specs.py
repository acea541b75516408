"""Specs as people keep them: the files of a folder, and what one environment says otherwise.

One folder serves several environments. `DIR/env/NAME.yaml` is the overlay of the environment NAME: what topics are
called there, keys that all tables have there, and keys of single tables. Every other `*.yaml` below DIR is a table's
spec, or several, with `---` between them. Nothing is given back while one of the files has a mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from schemas.document import Document, Strict, parse_document
from schemas.errors import ConfigurationError
from schemas.mistakes import Misplaced, nearest
from schemas.table import TableSpec
from schemas.tenant import under_tenant

SPEC_FILES_MAX = 10_000
ENV_FOLDER = "env"
NOTHING_DONE = "nothing was applied"
_SUFFIXES = (".yaml", ".yml")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_HINT = "a spec is a YAML file of one table; see docs/tables.md"

TopicPrefix = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,200}$")]


class Overlay(Strict):
    """What one environment says otherwise than the files of the tables.

    Topics that begin with `instead_of` begin with `topic_prefix` here. The keys of `all_tables`, and then those of a
    table's own, are laid over its spec: mappings key by key, anything else in place of what stands there, and null
    takes a key away. A table that is null is none of this environment.
    """

    topic_prefix: TopicPrefix = ""
    instead_of: TopicPrefix = ""
    all_tables: dict[str, Any] = Field(default_factory=dict)
    tables: dict[str, dict[str, Any] | None] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _keeps_names(self) -> Self:
        """Refuse what would make one table of all, or another of one: a table has its name in every environment."""
        for key in ("table", "tenant", "topics", "source_table"):
            if key in self.all_tables:
                raise Misplaced(f"all_tables: `{key}` is not the same for all tables", "all_tables", key)
        for table, own in self.tables.items():
            for key in sorted({"table", "tenant"} & (own or {}).keys()):
                raise Misplaced(f"{table}: a table has one name in all environments", "tables", table, key)
        return self


class SpecMistake(ConfigurationError):
    """A mistake in the spec of `table`, at `path` in it: keys, and numbers in lists."""

    def __init__(self, table: str, path: Sequence[str | int], message: str, *, hint: str = "") -> None:
        """Say the table's name before the message."""
        super().__init__(f"{table}: {message}", hint=hint)
        self.table, self.path = table, tuple(path)


class SpecMistakes(ConfigurationError):
    """Several of them, each a line."""

    def __init__(self, mistakes: Sequence[SpecMistake]) -> None:
        """Keep them in the order in which they were found."""
        super().__init__("\n".join(map(str, mistakes)), hint=NOTHING_DONE)
        self.mistakes = mistakes


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a spec was written: the number of the document in its file, and the overlay laid over it."""

    file: Path
    number: int
    overlay: _Laid | None


@dataclass(frozen=True, slots=True)
class _Laid:
    """An overlay as it was read."""

    file: Path
    document: Document
    overlay: Overlay


class Specs(dict[str, TableSpec]):
    """Specs by table, which know the file and line of each of their places."""

    def __init__(self) -> None:
        """Hold none."""
        super().__init__()
        self._sources: dict[str, _Source] = {}

    def place(self, table: str, *path: str | int) -> str:
        """Return file and line of the deepest part of `path` that stands in the spec of `table`."""
        source = self._sources[table]  # the file is read again: trees of ten thousand specs would be gigabytes
        document = list(_documents(source.file))[source.number]
        laid, _ = _laid_over(document, source.overlay)
        return document.place(*path) if laid is None else laid.place(*path)

    def file(self, table: str) -> Path:
        """Return the file of a table's spec."""
        return self._sources[table].file

    @contextmanager
    def naming_places(self) -> Iterator[None]:
        """Put file and line in front of mistakes that are found in these specs meanwhile."""
        try:
            yield
        except SpecMistake as exc:
            raise ConfigurationError(self._placed(exc), hint=exc.hint) from exc
        except SpecMistakes as exc:
            lines = [
                f"{self._placed(each)} ({each.hint})" if each.hint else self._placed(each) for each in exc.mistakes
            ]
            raise ConfigurationError("\n".join(lines), hint=exc.hint) from exc

    def _placed(self, mistake: SpecMistake) -> str:
        known = mistake.table in self._sources  # else it is one that is registered
        return f"{self.place(mistake.table, *mistake.path)}: {mistake.message}" if known else mistake.message

    def _add(self, spec: TableSpec, source: _Source) -> None:
        self[spec.table], self._sources[spec.table] = spec, source


def read_specs(folder: Path, *, env: str | None = None) -> Specs:
    """Return the specs of all files below `folder`, by table, as they are in the environment `env`.

    Raises:
        ConfigurationError: it names each mistake of each file, overlays of other environments included.
    """
    files = spec_files(folder)
    if not files:
        raise ConfigurationError(f"{folder} holds no .yaml file", hint="one file per table; see docs/tables.md")
    problems: list[str] = []
    overlays = {file.stem: _taken(file, problems) for file in overlay_files(folder)}
    if env is not None and env not in overlays:
        raise _no_environment(env, folder / ENV_FOLDER, overlays)
    specs, known = _read(files, overlays.get(env or ""), problems)
    for laid in overlays.values():
        if laid is not None and not problems:  # of a file with mistakes the table is not known
            problems += _strangers(laid, known)
    return _whole(specs, problems)


def read_given(paths: Iterable[Path], *, env: str | None = None) -> Specs:
    """Return the specs of files and folders; the overlay of a file's environment lies in `env/` beside it or above.

    Raises:
        ConfigurationError: it names each mistake of each file.
    """
    specs, problems = Specs(), list[str]()
    for path in paths:
        try:
            if path.is_dir():
                found = read_specs(path, env=env)
            else:
                laid = None if env is None else _taken(_overlay_near(path, env), problems)
                found, _ = _read([path], laid, problems)
        except ConfigurationError as exc:
            problems.append(exc.message)
            continue
        for table, spec in found.items():
            if table in specs:
                problems.append(_twice(found.place(table, "table"), table, found.file(table), specs.file(table)))
            else:
                specs._add(spec, found._sources[table])  # noqa: SLF001 - of its own kind
    return _whole(specs, problems)


def read_spec(file: Path) -> TableSpec:
    """Return the spec in a file of one table.

    Raises:
        ConfigurationError: it cannot be read, or is not right; with file and line.
    """
    documents = list(_documents(file))
    if len(documents) != 1:
        raise ConfigurationError(f"{file} holds {len(documents)} specs, and one is wanted", hint=_HINT)
    return documents[0].read(TableSpec)


def spec_files(folder: Path) -> list[Path]:
    """Return the files of tables below a folder, sorted."""
    found = [file for suffix in _SUFFIXES for file in folder.rglob(f"*{suffix}") if file.is_file()]
    found = [file for file in found if file.relative_to(folder).parts[0] != ENV_FOLDER]
    if len(found) > SPEC_FILES_MAX:
        raise ConfigurationError(
            f"{folder} holds {len(found)} files of YAML, and {SPEC_FILES_MAX} at most are read", hint="name a folder"
        )
    return sorted(found)


def overlay_files(folder: Path) -> list[Path]:
    """Return the files of environments of a folder, sorted; a file's name is the environment's."""
    found = [file for suffix in _SUFFIXES for file in (folder / ENV_FOLDER).glob(f"*{suffix}") if file.is_file()]
    return sorted(found)


def _whole(specs: Specs, problems: list[str]) -> Specs:
    if problems:
        raise ConfigurationError("\n".join(problems), hint=NOTHING_DONE)
    return specs


def _read(files: Iterable[Path], laid: _Laid | None, problems: list[str]) -> tuple[Specs, set[str]]:
    """Return the specs, and the names of all tables, also of those that the environment leaves out."""
    specs, known = Specs(), set[str]()
    for file in files:
        try:
            documents = list(_documents(file))
        except ConfigurationError as exc:
            problems.append(str(exc))
            continue
        for number, document in enumerate(documents):
            try:
                merged, table = _laid_over(document, laid)
                known.add(table)
                if merged is None:
                    continue
                spec = merged.read(TableSpec)
            except ConfigurationError as exc:
                problems.append(exc.message)
                continue
            if spec.table in specs:
                problems.append(_twice(document.place("table"), spec.table, file, specs.file(spec.table)))
                continue
            specs._add(spec, _Source(file, number, laid))  # noqa: SLF001 - of its own kind
    return specs, known


def _twice(place: str, table: str, file: Path, first: Path) -> str:
    where = "stands there twice" if file == first else f"stands in another file as well: {first}"
    return f"{place}: table {table} {where}"


def _documents(file: Path) -> Iterator[Document]:
    """Yield the documents of a file; their lines are those of the file.

    Raises:
        ConfigurationError: it cannot be read, or is no YAML.
    """
    try:
        raw = file.read_bytes()
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        raise ConfigurationError(f"{file}:{line}: not UTF-8", hint="save the file as UTF-8") from exc
    except OSError as exc:
        raise ConfigurationError(f"{file}: {exc.strerror or 'it cannot be read'}", hint=_HINT) from exc
    lines = text.splitlines()
    marks = [number for number, line in enumerate(lines) if line.rstrip() == "---"]
    parts = [
        (start, end)
        for start, end in zip([-1, *marks], [*marks, len(lines)], strict=True)
        if any(line.strip() and not line.lstrip().startswith("#") for line in lines[start + 1 : end])
    ]
    for start, end in parts or [(-1, len(lines))]:
        yield parse_document("\n" * (start + 1) + "\n".join(lines[start + 1 : end]) + "\n", name=str(file))


def _taken(file: Path, problems: list[str]) -> _Laid | None:
    """Return the overlay in a file; None where it has a mistake, which is then among the problems."""
    try:
        documents = list(_documents(file))
        if len(documents) == 1:
            return _Laid(file, documents[0], documents[0].read(Overlay))
        problems.append(f"{file} holds {len(documents)} documents, and an environment has one")
    except ConfigurationError as exc:
        hint = "a table's spec does not lie in `env/`" if "unknown key 'table'" in exc.message else ""
        problems.append(f"{exc.message}; {hint}" if hint else exc.message)
    return None


def _strangers(laid: _Laid, known: set[str]) -> list[str]:
    return [
        f"{laid.document.place('tables', table)}: no file has a table {table}; {nearest(table, sorted(known))}"
        for table in laid.overlay.tables
        if table not in known
    ]


def _laid_over(document: Document, laid: _Laid | None) -> tuple[Document | None, str]:
    """Return a spec with what an environment says, None if that leaves the table out, and the table's name.

    Raises:
        ConfigurationError: a topic does not begin as the environment says.
    """
    table = str(under_tenant(document.content).get("table"))
    if laid is None:
        return document, table
    overlay, own = laid.overlay, laid.overlay.tables.get(table, {})
    if own is None:
        return None, table
    found = _with_topics(document, laid, own)
    if overlay.all_tables:
        found = found.laid_over(laid.document, "all_tables")
    if own:
        found = found.laid_over(laid.document, "tables", table)
    return found, table


def _with_topics(document: Document, laid: _Laid, own: Mapping[str, Any]) -> Document:
    """Return the spec with its topics as they are called in an environment, unless that names them itself."""
    topics = document.content.get("topics")
    overlay = laid.overlay
    if not (overlay.topic_prefix or overlay.instead_of) or "topics" in own or not isinstance(topics, list):
        return document
    renamed = []
    for at, topic in enumerate(topics):
        name = _renamed(str(topic), overlay)
        if name is None:
            raise ConfigurationError(
                f"{document.place('topics', at)}: {topic} does not begin with {overlay.instead_of}, as {laid.file} "
                "says; name the table's topics there"
            )
        renamed.append(name)
    return replace(document, content={**document.content, "topics": renamed})


def _renamed(topic: str, overlay: Overlay) -> str | None:
    """Return a topic, or a pattern of topics, with the environment's prefix; None where it begins otherwise."""
    if not topic.startswith("^"):
        start = overlay.instead_of
        return overlay.topic_prefix + topic.removeprefix(start) if topic.startswith(start) else None
    for start in dict.fromkeys((re.escape(overlay.instead_of), _posix(overlay.instead_of), overlay.instead_of)):
        if topic[1:].startswith(start):
            return f"^{_posix(overlay.topic_prefix)}{topic[1:].removeprefix(start)}"
    return None


def _posix(text: str) -> str:
    return text.replace(".", "[.]")


def _overlay_near(file: Path, env: str) -> Path:
    """Return the file of an environment that is nearest above a spec's file.

    Raises:
        ConfigurationError: there is none.
    """
    folders = [parent / ENV_FOLDER for parent in file.absolute().parents]
    for folder in folders:
        for suffix in _SUFFIXES:
            if _NAME.fullmatch(env) and (folder / f"{env}{suffix}").is_file():
                return folder / f"{env}{suffix}"
    near = next((folder for folder in folders if folder.is_dir()), file.parent / ENV_FOLDER)
    raise _no_environment(env, near, [each.stem for each in overlay_files(near.parent)])


def _no_environment(env: str, folder: Path, known: Iterable[str]) -> ConfigurationError:
    names = sorted(known)
    hint = nearest(env, names) if names else f"write what is other there into {folder / 'prod.yaml'}"
    return ConfigurationError(f"there is no environment {env!r} in {folder}", hint=hint)
