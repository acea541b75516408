"""No module over 400 lines, no function over 70: what is larger is two things."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ROOMS = ("schemas", "connectors", "sinks", "streams", "headgate", "tests")
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70


def modules(root: Path) -> list[Path]:
    """Every module of the rooms and of the tests, and Redis' scripts."""
    return sorted(path for room in ROOMS for suffix in ("*.py", "*.lua") for path in (root / room).rglob(suffix))


def long_modules(root: Path) -> list[str]:
    """Modules with too many lines."""
    sizes = ((path.relative_to(root), len(path.read_text().splitlines())) for path in modules(root))
    return [f"{path}: {lines} lines" for path, lines in sizes if lines > MODULE_LINES_MAX]


def long_functions(root: Path) -> list[str]:
    """Functions with too many lines, from `def` to their last."""
    return [
        f"{path.relative_to(root)}:{function.lineno} {function.name}: {lines} lines"
        for path in modules(root)
        if path.suffix == ".py"
        for function, lines in functions(path.read_text())
        if lines > FUNCTION_LINES_MAX
    ]


def functions(source: str) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, int]]:
    """Every function of a module, nested ones too, with its lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None, "the parser knows where a function ends"
            yield node, node.end_lineno - node.lineno + 1


def test_no_module_is_too_long() -> None:
    """The list of those that are is empty."""
    assert len(modules(ROOT)) > 20, "the rooms were found"

    assert [] == long_modules(ROOT)


def test_no_function_is_too_long() -> None:
    """The list of those that are is empty."""
    assert [] == long_functions(ROOT)


@pytest.mark.parametrize(("lines", "expected"), [(70, []), (71, ["schemas/planted.py:1 planted: 71 lines"])])
def test_a_planted_function_is_found_when_it_is_one_line_too_long(
    tmp_path: Path, lines: int, expected: list[str]
) -> None:
    """The measure can fail."""
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "planted.py").write_text("def planted():\n" + "    pass\n" * (lines - 1))

    assert expected == long_functions(tmp_path)


@pytest.mark.parametrize(("lines", "expected"), [(400, []), (401, ["sinks/planted.lua: 401 lines"])])
def test_a_planted_module_is_found_when_it_is_one_line_too_long(
    tmp_path: Path, lines: int, expected: list[str]
) -> None:
    """The measure can fail."""
    (tmp_path / "sinks").mkdir()
    (tmp_path / "sinks" / "planted.lua").write_text("-- a line\n" * lines)

    assert expected == long_modules(tmp_path)
