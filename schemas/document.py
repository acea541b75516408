"""YAML documents read into models, with errors that name file, line, key and the nearest right one."""

from __future__ import annotations

import difflib
import re
from typing import Any, TypeVar

import msgspec
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import ConfigurationError
from schemas.versions import Form

DOCUMENT_BYTES_MAX = 4 * 1024 * 1024
NODES_MAX = 1_000_000  # what a document stands for once its aliases are followed
_QUICK_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, where PyYAML was built with it
# It nests on the stack of C, and ends the process at some 20,000; the loader in Python raises RecursionError.
_BRACKETS_MAX = 2_000
_ABREAST = re.compile(r"(?:[-?][ \t]+){20}")  # so many collections that begin on one line


class Strict(BaseModel):
    """A model that takes no unknown key and does not change after it was made."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False, populate_by_name=True)


M = TypeVar("M", bound=BaseModel)


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


def read_document(text: str, model: type[M], *, name: str) -> M:
    """Return the model that `text` describes; `name` is how errors call the document.

    Raises:
        ConfigurationError: not YAML, not a mapping, or not what `model` takes.
    """
    if len(text.encode()) > DOCUMENT_BYTES_MAX:
        raise ConfigurationError(f"{name} is above {DOCUMENT_BYTES_MAX} bytes", hint="split it")
    root, content = _load(text, name)
    try:
        return model.model_validate(content or {})
    except ValidationError as exc:
        problems = [_problem(error, root, model, name) for error in exc.errors()]
        raise ConfigurationError("\n".join(problems)) from None  # pydantic's own text repeats values


def read_mapping(content: dict[str, Any], model: type[M], *, name: str) -> M:
    """Return the model that `content` describes; `name` is how errors call the place where it stands.

    Raises:
        ConfigurationError: it is not what `model` takes.
    """
    try:
        return model.model_validate(content)
    except ValidationError as exc:
        raise ConfigurationError("\n".join(f"{name}: {_wrong(error, model)}" for error in exc.errors())) from None


def _load(text: str, name: str) -> tuple[yaml.Node | None, Any]:
    """Return the document's tree, for the lines of errors, and its content; parsed once, for that is what costs."""
    if text.count("[") + text.count("{") > _BRACKETS_MAX or _ABREAST.search(text):
        return _load_slowly(text, name)
    try:
        return _parse(text, name, _QUICK_LOADER)
    except yaml.YAMLError:  # the loader in Python says more of what is wrong
        return _load_slowly(text, name)


def _load_slowly(text: str, name: str) -> tuple[yaml.Node | None, Any]:
    try:
        return _parse(text, name, yaml.SafeLoader)
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise ConfigurationError(f"{name}:{line}: not YAML: {exc.problem}") from exc
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise ConfigurationError(f"{name}:{line}: not YAML: {exc.reason}") from exc


def _parse(text: str, name: str, loader_type: Any) -> tuple[yaml.Node | None, Any]:
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
    except (ValueError, LookupError, AttributeError) as exc:  # the last two: what tags such as !!bool make of a word
        raise ConfigurationError(f"{name}: a value looks like a date or number and is none", hint="quote it") from exc


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


def _problem(error: Any, root: yaml.Node | None, model: type[BaseModel], name: str) -> str:
    return f"{name}:{_line(root, _path(error))}: {_wrong(error, model)}"


def _path(error: Any) -> tuple[Any, ...]:
    return tuple(part for part in error["loc"] if not _is_tag(part))


def _wrong(error: Any, model: type[BaseModel]) -> str:
    """Return what is wrong where, and the nearest key that would be right."""
    path = _path(error)
    where = ".".join(str(part) for part in path) or "the document"
    if error["type"] == "extra_forbidden":
        key = str(path[-1])
        near = difflib.get_close_matches(key, _known(model, path[:-1]), n=1, cutoff=0.5)
        hint = (
            f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(_known(model, path[:-1]))[:20])}"
        )
        return f"{where}: unknown key {key!r}; {hint}"
    if error["type"] == "missing":
        return f"{where}: this key is wanted and is not there"
    return f"{where}: {error['msg']}"


def _is_tag(part: Any) -> bool:
    return isinstance(part, str) and (part.startswith(("function-", "tagged-")) or part.endswith("]"))


def _line(node: yaml.Node | None, path: tuple[Any, ...]) -> int:
    """Return the line of the deepest part of `path` that is there."""
    line = node.start_mark.line + 1 if node is not None else 1
    for part in path:
        found = _child(node, part)
        if found is None:
            return line
        key, node = found
        line = key.start_mark.line + 1
    return line


def _child(node: yaml.Node | None, part: Any) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _known(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """Return the keys that the model below `path` takes."""
    current: Any = model
    for part in path:
        if not (isinstance(current, type) and issubclass(current, BaseModel)):
            current = _model_in(current)
            continue  # an index or a key of a mapping, not a field
        field = current.model_fields.get(str(part))
        current = field.annotation if field is not None else None
    found = current if isinstance(current, type) and issubclass(current, BaseModel) else _model_in(current)
    return [f.alias or n for n, f in found.model_fields.items()] if found is not None else []


def _model_in(annotation: Any) -> Any:
    """Return the first model inside an annotation such as `dict[str, Model]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (found := _model_in(argument)) is not None:
            return found
    return None
