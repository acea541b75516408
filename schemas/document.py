"""YAML documents read into models, with errors that name file, line, key and the nearest right one."""

from __future__ import annotations

import difflib
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import ConfigurationError

DOCUMENT_BYTES_MAX = 4 * 1024 * 1024
_QUICK_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, where PyYAML was built with it


class Strict(BaseModel):
    """A model that takes no unknown key and does not change after it was made."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False, populate_by_name=True)


M = TypeVar("M", bound=BaseModel)


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


def _load(text: str, name: str) -> tuple[yaml.Node | None, Any]:
    """Return the document's tree, for the lines of errors, and its content; parsed once, for that is what costs."""
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
    root = loader.get_single_node()
    _refuse_duplicates(root, name)
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise ConfigurationError(f"{name}:1: a mapping is wanted here", hint="`key: value` lines")
    try:
        return root, None if root is None else loader.construct_document(root)
    except ValueError as exc:
        raise ConfigurationError(f"{name}: a value looks like a date or number and is none", hint="quote it") from exc


def _refuse_duplicates(node: yaml.Node | None, name: str) -> None:
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
            _refuse_duplicates(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_duplicates(value, name)


def _problem(error: Any, root: yaml.Node | None, model: type[BaseModel], name: str) -> str:
    path = tuple(part for part in error["loc"] if not _is_tag(part))
    line = _line(root, path)
    where = ".".join(str(part) for part in path) or "the document"
    if error["type"] == "extra_forbidden":
        key = str(path[-1])
        near = difflib.get_close_matches(key, _known(model, path[:-1]), n=1, cutoff=0.5)
        hint = (
            f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(_known(model, path[:-1]))[:20])}"
        )
        return f"{name}:{line}: {where}: unknown key {key!r}; {hint}"
    if error["type"] == "missing":
        return f"{name}:{line}: {where}: this key is wanted and is not there"
    return f"{name}:{line}: {where}: {error['msg']}"


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
