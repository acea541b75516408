"""Tenants of an installation: names that stay apart, and specs made for a new one from a folder of templates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.document import read_document
from schemas.errors import ConfigurationError, TableStopped
from schemas.table import TableEntry, TableSpec
from schemas.tenant import is_tenant
from streams.specs import ENV_FOLDER, SpecMistake

PLACEHOLDER = "{tenant}"
TEMPLATES_MAX = 1_000


def check_names(specs: Mapping[str, TableSpec]) -> None:
    """Check that no table or view stands among those of a tenant that it is not of, and that Kafka takes the names.

    Kafka counts two topics as one whose names differ by dots and underscores alone, and makes only the first.

    Raises:
        SpecMistake: it names the two that clash.
    """
    tenants = {spec.tenant for spec in specs.values() if spec.tenant is not None}
    for table, spec in specs.items():
        first, dot, _ = table.partition(".")
        if dot and first in tenants and spec.tenant != first:
            raise SpecMistake(
                table,
                ["table"],
                f"it stands among the tables of tenant {first}, whose readers could read it",
                hint=f"say `tenant: {first}`, or give the table another name",
            )
    tables = [(table, table, ("table",)) for table in specs]
    views = [
        (view.view, table, ("features", at, "view"))
        for table, spec in specs.items()
        for at, view in enumerate(spec.features)
    ]
    _check_told_apart("table", tables)
    _check_told_apart("view", views)


def _check_told_apart(what: str, names: Iterable[tuple[str, str, Sequence[str | int]]]) -> None:
    """Check names, each with the table in whose spec it stands, and where."""
    known: dict[str, str] = {}
    for name, table, path in names:
        if (other := known.setdefault(name.replace(".", "_"), name)) != name:
            raise SpecMistake(
                table,
                path,
                f"{what}s {other} and {name} differ by dots and underscores alone, and Kafka takes them for one topic",
                hint=f"give one of the {what}s another name",
            )


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant as it is registered: how many tables, views and rules it has, and how many tables are paused."""

    tenant: str
    tables: int
    views: int
    rules: int
    paused: int


def tenants_of(entries: Mapping[str, TableEntry]) -> list[Tenant]:
    """Return the tenants that have tables, by name."""
    tables: Counter[str] = Counter()
    views: Counter[str] = Counter()
    rules: Counter[str] = Counter()
    paused: Counter[str] = Counter()
    for entry in entries.values():
        if (tenant := entry.spec.tenant) is not None:
            tables[tenant] += 1
            views[tenant] += len(entry.spec.features)
            rules[tenant] += len(entry.spec.rules)
            paused[tenant] += entry.paused is not None
    return [Tenant(name, tables[name], views[name], rules[name], paused[name]) for name in sorted(tables)]


def specs_of(tenant: str, entries: Mapping[str, TableEntry]) -> list[TableSpec]:
    """Return the specs of a tenant's tables, by name.

    Raises:
        TableStopped: it has none.
    """
    found = [entry.spec for _, entry in sorted(entries.items()) if entry.spec.tenant == tenant]
    if not found:
        known = ", ".join(each.tenant for each in tenants_of(entries)[:20])
        message = f"no table of a tenant {tenant!r} is registered"
        raise TableStopped("unregistered", message, hint=f"there are {known or 'none'}")
    return found


def check_tenant(name: str) -> None:
    """Refuse what no tenant may be called.

    Raises:
        ConfigurationError: it says what a name is made of.
    """
    if not is_tenant(name):
        raise ConfigurationError(
            f"{name[:60]!r} is no name of a tenant",
            hint="a small letter, then small letters, digits and dashes, 31 characters at most",
        )


def read_templates(folder: Path) -> dict[Path, str]:
    """Return the texts of the templates below a folder, by their paths in it.

    Raises:
        ConfigurationError: there are none, too many, or one cannot be read.
    """
    files = sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")])[: TEMPLATES_MAX + 1]
    if not files or len(files) > TEMPLATES_MAX:
        how_many = f"more than {TEMPLATES_MAX} templates" if files else "no .yaml file"
        raise ConfigurationError(f"{folder} holds {how_many}", hint="one file per table; see docs/tenants.md")
    try:
        return {file.relative_to(folder): file.read_text(encoding="utf-8") for file in files}
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{folder}: {exc}", hint="a template is a YAML file of one table") from exc


def made_for(tenant: str, templates: Mapping[Path, str], folder: Path) -> dict[Path, str]:
    """Return the specs of one tenant by their paths in its own folder, each read and found right; pure.

    `{tenant}` stands for the tenant's name, which holds nothing that YAML or a regular expression reads as other than
    text.

    Raises:
        ConfigurationError: of each template that makes no spec of this tenant, file and line and what is wrong.
    """
    check_tenant(tenant)
    if tenant == ENV_FOLDER:
        message = f"a tenant {tenant} would have the folder in which environments say what is other there"
        raise ConfigurationError(message, hint="give it another name; no spec was written")
    made, problems = {}, []
    for path, text in templates.items():
        made[Path(tenant) / path] = filled = text.replace(PLACEHOLDER, tenant)
        try:
            spec = read_document(filled, TableSpec, name=str(folder / path))
        except ConfigurationError as exc:
            problems.append(str(exc))
            continue
        if spec.tenant != tenant:
            problems.append(f"{folder / path}: it makes no table of the tenant; write `tenant: '{PLACEHOLDER}'`")
    if problems:
        raise ConfigurationError("\n".join(problems), hint="no spec was written")
    return made


def write_specs(specs: Mapping[Path, str], folder: Path) -> list[Path]:
    """Write specs that are not there yet below a folder, and return their paths; what is there stays.

    Raises:
        ConfigurationError: one of them is there and says something else, which nobody is to lose: none was written; or
            the folder cannot be written.
    """
    try:
        there = {path: (folder / path).read_text("utf-8") for path in specs if (folder / path).exists()}
        differing = [str(folder / path) for path, text in there.items() if text != specs[path]]
        if differing:
            message = f"{', '.join(differing[:5])}: it is there, and not what the template makes"
            raise ConfigurationError(message, hint="move it away, or change it by hand; no spec was written")
        new = [path for path in specs if path not in there]
        for path in new:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(specs[path], "utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{folder} cannot be written: {exc}", hint="name another one with --into") from exc
    return new
