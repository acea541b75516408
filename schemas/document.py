"""YAML documents read into models, with errors that name file, line, key and the nearest right one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import ConfigurationError
from schemas.mistakes import path_of, wrong
from schemas.versions import Form

DOCUMENT_BYTES_MAX = 4 * 1024 * 1024
NODES_MAX = 1_000_000  # what a document stands for once its aliases are followed
_QUICK_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, where PyYAML was built with it
# It nests on the stack of C, and ends the process at some 20,000; the loader in Python raises RecursionError.
_BRACKETS_MAX = 2_000
_NOT_CONSTRUCTED = (ValueError, LookupError, AttributeError)  # the last two: what tags such as !!bool make of a word
_ABREAST = re.compile(r"(?:[-?][ \t]+){20}")  # so many collections that begin on one line


class Strict(BaseModel):
    """A model that takes no unknown key and does not change after it was made."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False, populate_by_name=True)


M = TypeVar("M", bound=BaseModel)


def without_defaults(model: BaseModel, document: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Take keys out of a model's document that say no more than their default does; older releases refuse them."""
    fields = type(model).model_fields
    for name in names:
        if name in document and getattr(model, name) == fields[name].get_default():
            del document[name]
    return document


def read_record(data: bytes, model: type[M], form: Form, what: str, *, hint: str) -> M:
    """Return what a record of ours holds, `what`; `hint` says what to do where it is none of ours.

    Raises:
        VersionRefused: it is of a version that this release does not read.
        ConfigurationError: somebody else wrote it.
    """
    try:
        form.check_json(data, what)
        return model.model_validate_json(data)
    except msgspec.MsgspecError:
        why = "it is no JSON object"
    except ValidationError as exc:
        why = ", ".join(".".join(str(part) for part in error["loc"]) for error in exc.errors()[:5])
    raise ConfigurationError(f"{what} cannot be read: {why}", hint=hint)


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML document: its content, and its tree, by which each place of it has a file and a line.

    Where a part was laid over it from another file, `elsewhere` has that file's name by the ids of the part's nodes.
    """

    name: str
    root: yaml.MappingNode | None
    content: dict[str, Any]
    elsewhere: Mapping[int, str] = field(default_factory=dict)

    def place(self, *path: str | int) -> str:
        """Return file and line of the deepest part of `path` that is there."""
        node: yaml.Node | None = self.root
        found = node
        for part in path:
            if (child := _child(node, part)) is None:
                break
            found, node = child
        name = self.name if found is None else self.elsewhere.get(id(found), self.name)
        return f"{name}:{1 if found is None else found.start_mark.line + 1}"

    def read(self, model: type[M]) -> M:
        """Return the model that the document describes.

        Raises:
            ConfigurationError: it is not what `model` takes; a line for each mistake, with its place.
        """
        try:
            return model.model_validate(self.content)
        except ValidationError as exc:
            problems = [f"{self.place(*path_of(error))}: {wrong(error, model)}" for error in exc.errors()]
            raise ConfigurationError("\n".join(problems)) from None  # pydantic's own text repeats values

    def laid_over(self, over: Document, *path: str) -> Document:
        """Return this document with what `over` says below `path`: mappings key by key, anything else in its place.

        A key that says null there is taken away.
        """
        node: yaml.Node | None = over.root
        content = over.content
        for part in path:
            child = _child(node, part)
            assert child is not None, "what is laid over is there"
            node, content = child[1], content[part]
        assert isinstance(node, yaml.MappingNode), "a mapping is laid over a mapping"
        root = node if self.root is None else _joined(self.root, node)
        merged = merged_mappings(self.content, content)
        return Document(self.name, root, merged, {**self.elsewhere, **dict.fromkeys(_ids(node), over.name)})


def read_document(text: str, model: type[M], *, name: str) -> M:
    """Return the model that `text` describes; `name` is how errors call the document.

    Raises:
        ConfigurationError: not YAML, not a mapping, or not what `model` takes.
    """
    return parse_document(text, name=name).read(model)


def parse_document(text: str, *, name: str) -> Document:
    """Return the document in `text`; `name` is how errors call it.

    Raises:
        ConfigurationError: not YAML, not a mapping, or above a limit.
    """
    if len(text.encode()) > DOCUMENT_BYTES_MAX:
        raise ConfigurationError(f"{name} is above {DOCUMENT_BYTES_MAX} bytes", hint="split it")
    root, content = _load(text, name)
    return Document(name, root, content or {})


def merged_mappings(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `under` with what `over` says, as `Document.laid_over` does."""
    found = dict(under)
    for key, value in over.items():
        old = found.get(key)
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged_mappings(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return found


def _joined(under: yaml.MappingNode, over: yaml.MappingNode) -> yaml.MappingNode:
    pairs = {key.value: (key, value) for key, value in under.value}
    for key, value in over.value:
        old_key, old = pairs.get(key.value, (key, None))
        if isinstance(old, yaml.MappingNode) and isinstance(value, yaml.MappingNode):
            pairs[key.value] = old_key, _joined(old, value)
        else:
            pairs[key.value] = key, value
    return yaml.MappingNode(under.tag, list(pairs.values()), under.start_mark, under.end_mark)


def _ids(node: yaml.Node) -> Iterator[int]:
    yield id(node)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield id(key)
            yield from _ids(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _ids(value)


def read_mapping(content: dict[str, Any], model: type[M], *, name: str) -> M:
    """Return the model that `content` describes; `name` is how errors call the place where it stands.

    Raises:
        ConfigurationError: it is not what `model` takes.
    """
    try:
        return model.model_validate(content)
    except ValidationError as exc:
        raise ConfigurationError("\n".join(f"{name}: {wrong(error, model)}" for error in exc.errors())) from None


def _load(text: str, name: str) -> tuple[yaml.MappingNode | None, Any]:
    """Return the document's tree, for the lines of errors, and its content; parsed once, for that is what costs."""
    if text.count("[") + text.count("{") > _BRACKETS_MAX or _ABREAST.search(text):
        return _load_slowly(text, name)
    try:
        return _parse(text, name, _QUICK_LOADER)
    except yaml.YAMLError:  # the loader in Python says more of what is wrong
        return _load_slowly(text, name)


def _load_slowly(text: str, name: str) -> tuple[yaml.MappingNode | None, Any]:
    try:
        return _parse(text, name, yaml.SafeLoader)
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise ConfigurationError(f"{name}:{line}: not YAML: {exc.problem}") from exc
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise ConfigurationError(f"{name}:{line}: not YAML: {exc.reason}") from exc


def _parse(text: str, name: str, loader_type: Any) -> tuple[yaml.MappingNode | None, Any]:
    loader = loader_type(text)
    try:
        root = loader.get_single_node()
        if root is not None:
            _check(root, name, {})
    except RecursionError:
        raise ConfigurationError(f"{name}: nested too deep") from None
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise ConfigurationError(f"{name}:1: a mapping is wanted here", hint="`key: value` lines")
    try:
        return root, None if root is None else loader.construct_document(root)
    except _NOT_CONSTRUCTED as exc:
        line = _odd_line(root)
        raise ConfigurationError(
            f"{name}:{line}: a value looks like a date or number and is none", hint="quote it"
        ) from exc


def _odd_line(root: yaml.Node | None) -> int:
    """Return the line of the first scalar of which nothing can be made."""
    waiting: list[yaml.Node] = [] if root is None else [root]
    seen: set[int] = set()  # what aliases name is looked at once
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        match node:
            case yaml.MappingNode():
                waiting += [each for pair in reversed(node.value) for each in reversed(pair)]
            case yaml.SequenceNode():
                waiting += reversed(node.value)
            case _:
                try:
                    yaml.SafeLoader("").construct_document(node)
                except _NOT_CONSTRUCTED:
                    return int(node.start_mark.line) + 1
    return 1


def _check(node: yaml.Node, name: str, sizes: dict[int, int]) -> int:
    """Refuse duplicate keys and aliases that go round or multiply; return how many nodes `node` stands for.

    `sizes` has those of the nodes seen so far, so that each is walked once, 0 for one that is being walked.
    """
    if id(node) in sizes:
        if not sizes[id(node)]:
            raise ConfigurationError(f"{name}:{node.start_mark.line + 1}: an alias here leads back to itself")
        return sizes[id(node)]
    sizes[id(node)] = 0
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigurationError(f"{name}:{line}: a key is one word")
            if key.value in seen:
                raise ConfigurationError(
                    f"{name}:{line}: {key.value!r} stands here again, first in line {seen[key.value]}"
                )
            seen[key.value] = line
            children.append(value)
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    size = sizes[id(node)] = 1 + sum(_check(child, name, sizes) for child in children)
    if size > NODES_MAX:
        raise ConfigurationError(f"{name}:{node.start_mark.line + 1}: stands for more than {NODES_MAX} values")
    return size


def _child(node: yaml.Node | None, part: Any) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None
