"""Specs made for a tenant from templates: all or nothing, and nothing of somebody's is lost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from headgate.cli import main as entry
from headgate.cli.codes import ExitCode
from schemas.errors import ConfigurationError, TableStopped
from schemas.table import TableEntry
from streams.apply import check_specs, read_specs
from streams.tenants import made_for, read_templates, specs_of, tenants_of
from tests.unit.streams.test_apply import CONFIG
from tests.unit.tenants.hostile import HOSTILE
from tests.unit.tenants.test_names import spec_of

TEMPLATE = """\
table: {table}
tenant: {{tenant}}
topics: ["{{tenant}}-clinic.public.{table}"]
key: [id]
columns: {{id: int, name: string}}
features: [{{view: {table}, entity: row, columns: [name]}}]
"""
TABLES = ("patients", "visits", "wards")


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    """A folder with three templates, one of them further down."""
    folder = tmp_path / "templates"
    for table in TABLES:
        file = folder / ("more" if table == "wards" else "") / f"{table}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(TEMPLATE.format(table=table))
    return folder


def add(templates: Path, into: Path, *names: str, more: Sequence[str] = ()) -> int:
    """Run the verb."""
    return entry.run(["tenants", "add", *names, "--template", str(templates), "--into", str(into), *more])


def test_each_tenant_has_a_spec_of_each_template(templates: Path, tmp_path: Path) -> None:
    """In a folder of its own; applied together they do not clash."""
    code = add(templates, tmp_path / "tables", "acme", "acme-2", "zeta")
    specs = read_specs(tmp_path / "tables")

    assert ExitCode.OK == code
    assert {f"{tenant}.{table}" for tenant in ("acme", "acme-2", "zeta") for table in TABLES} == specs.keys()
    assert (tmp_path / "tables" / "acme" / "more" / "wards.yaml").exists()
    assert specs.keys() == check_specs(specs, CONFIG).keys()
    assert ["acme-clinic.public.patients"] == specs["acme.patients"].topics


def test_specs_that_cannot_be_applied_are_there_and_said_to_be(
    templates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong may stand in another file of the folder; mended, the same command goes on."""
    into, file = tmp_path / "tables", tmp_path / "headgate.yaml"
    into.mkdir()
    (into / "broken.yaml").write_text("table: broken\n")
    file.write_text("kafka: {bootstrap: '127.0.0.1:1'}\n")

    code = add(templates, into, "acme", more=["--apply", "--config", str(file)])

    said = capsys.readouterr().err
    assert ExitCode.CONFIGURATION == code
    assert 3 == len(list((into / "acme").rglob("*.yaml")))
    assert said.index(f"3 specs written below {into}, 0 were there") < said.index("broken.yaml")


def test_what_is_there_already_stays(templates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Added once more nothing changes; a file that somebody changed is refused, and no other is written."""
    tables = tmp_path / "tables"
    add(templates, tables, "acme")
    assert ExitCode.OK == add(templates, tables, "acme")
    changed = tables / "acme" / "visits.yaml"
    changed.write_text(changed.read_text() + "before: full\n")
    capsys.readouterr()

    code = add(templates, tables, "acme", "zeta")

    said = capsys.readouterr().err
    assert ExitCode.CONFIGURATION == code
    assert f"{changed}: it is there, and not what the template makes" in said
    assert changed.read_text().endswith("before: full\n")
    assert not (tables / "zeta").exists()


def test_a_template_with_a_mistake_makes_nothing(
    templates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each one is named with file and line: no spec, and a spec of nobody."""
    (templates / "visits.yaml").write_text("table: visits\ntenant: {tenant}\ntopics: [t]\ncolums: {id: int}\n")
    (templates / "patients.yaml").write_text("table: patients\ntopics: [t]\ncolumns: {id: int}\n")

    code = add(templates, tmp_path / "tables", "acme")

    said = capsys.readouterr().err
    assert ExitCode.CONFIGURATION == code
    assert f"{templates / 'visits.yaml'}:4: colums: unknown key 'colums'; did you mean 'columns'?" in said
    assert f"{templates / 'patients.yaml'}: it makes no table of the tenant" in said
    assert not (tmp_path / "tables").exists()


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name)[:30])
def test_a_hostile_name_reaches_no_file(name: str, templates: Path) -> None:
    """It is refused before anything is made of it."""
    with pytest.raises(ConfigurationError, match="is no name of a tenant"):
        made_for(name, read_templates(templates), templates)


def test_no_tenant_has_the_folder_of_the_environments(templates: Path, tmp_path: Path) -> None:
    """What lies in it are no specs."""
    assert ExitCode.CONFIGURATION == add(templates, tmp_path / "tables", "acme", "env")
    assert not (tmp_path / "tables").exists()


def test_an_environment_speaks_of_one_tenants_table_by_its_whole_name(templates: Path, tmp_path: Path) -> None:
    """Many tenants have a table of that name; and in no environment a table is another tenant's."""
    tables = tmp_path / "tables"
    add(templates, tables, "acme", "zeta")
    prod = tables / "env" / "prod.yaml"
    prod.parent.mkdir()
    prod.write_text("tables: {acme.visits: {before: full}, zeta.wards: null}\n")
    specs = read_specs(tables, env="prod")

    assert {"acme.visits"} == {name for name, spec in specs.items() if spec.before == "full"}
    assert 2 * len(TABLES) - 1 == len(specs)
    for text in ("all_tables: {tenant: zeta}", "tables: {acme.visits: {tenant: zeta}}", "tables: {visits: null}"):
        prod.write_text(text)
        with pytest.raises(ConfigurationError, match=r"prod\.yaml:1: .*(same|one name|no file has)"):
            read_specs(tables)


def test_names_that_clash_are_told_with_their_place(templates: Path, tmp_path: Path) -> None:
    """As any mistake of a spec."""
    tables = tmp_path / "tables"
    add(templates, tables, "acme")
    (tables / "other.yaml").write_text("table: acme.secrets\ntopics: [secrets]\nkey: [id]\ncolumns: {id: int}\n")
    specs = read_specs(tables)

    with (
        pytest.raises(ConfigurationError, match=r"other\.yaml:1: acme\.secrets: it stands among"),
        specs.naming_places(),
    ):
        check_specs(specs, CONFIG)


def test_a_folder_without_templates_is_told(tmp_path: Path) -> None:
    """And one that is not there."""
    assert ExitCode.CONFIGURATION == add(tmp_path, tmp_path / "tables", "acme")
    assert ExitCode.CONFIGURATION == add(tmp_path / "nowhere", tmp_path / "tables", "acme")


def test_tenants_are_counted_by_what_is_registered() -> None:
    """Tables, views, rules, and what is paused; tables of nobody are no tenant's."""
    specs = [spec_of(), spec_of(tenant="zeta"), spec_of(table="visits", features=[], rules=[]), spec_of(tenant=None)]
    entries = {spec.table: TableEntry(spec=spec) for spec in specs}
    entries["zeta.patients"] = TableEntry(spec=entries["zeta.patients"].spec, paused="by hand")

    found = [(each.tenant, each.tables, each.views, each.rules, each.paused) for each in tenants_of(entries)]

    assert [("acme", 2, 1, 2, 0), ("zeta", 1, 1, 2, 1)] == found
    assert ["acme.patients", "acme.visits"] == [spec.table for spec in specs_of("acme", entries)]
    with pytest.raises(TableStopped, match="no table of a tenant 'nobody'"):
        specs_of("nobody", entries)


def test_a_readers_rights_are_printed_without_asking_anybody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For the tools of each, and as JSON."""
    config = tmp_path / "headgate.yaml"
    config.write_text(
        "kafka: {bootstrap: '127.0.0.1:9'}\nlake: {warehouse: 's3://b/lake', catalog_uri: 'sqlite:///x'}\n"
    )

    assert ExitCode.OK == entry.run(["tenants", "rights", "acme", "--config", str(config)])
    text = capsys.readouterr().out
    assert ExitCode.OK == entry.run(["tenants", "rights", "acme", "--user", "app", "--json", "--config", str(config)])
    document = json.loads(capsys.readouterr().out)

    assert "--topic headgate.changes.acme. --resource-pattern-type prefixed" in text
    assert "redis-cli ACL SETUSER acme-reader reset" in text
    assert '"arn:aws:s3:::b/lake/headgate/acme.*"' in text
    assert ["ACL", "SETUSER", "app", "reset"] == document["redis"][:4]
    assert {"topic", "group"} == {right["resource"] for right in document["kafka"]}


@pytest.mark.parametrize("name", ["../x", "acme.x", ""])
def test_rights_of_no_name_are_none(name: str, tmp_path: Path) -> None:
    """A pattern made of it would reach what is not its own."""
    config = tmp_path / "headgate.yaml"
    config.write_text("")

    assert ExitCode.CONFIGURATION == entry.run(["tenants", "rights", name, "--config", str(config)])
