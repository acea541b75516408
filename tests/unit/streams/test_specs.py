"""One folder of specs for several environments: what an overlay changes, and where its mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import ConfigurationError
from streams.specs import read_given, read_spec, read_specs

ORDERS = """table: orders
topics: [test.shop.orders, '^test[.]shop[.]orders_[0-9]+$']
key: [id]
columns:
  id: long
  amount: {type: 'decimal(12,2)', encoding: number}
  note: string
features:
  - {view: order, entity: order, columns: [amount]}
lake: {time_zone: Europe/Berlin}
"""
PROD = """topic_prefix: prod.
instead_of: test.
all_tables:
  unknown_columns: quarantine
tables:
  orders:
    columns:
      amount: {encoding: null}
      paid_at: timestamptz
    features: []
    lake:
      enabled: false
  drafts: null
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two tables, and an environment."""
    (tmp_path / "orders.yaml").write_text(ORDERS)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "drafts.yaml").write_text("table: drafts\ntopics: [test.drafts]\ncolumns: {id: long}\n")
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "prod.yaml").write_text(PROD)
    return tmp_path


def test_without_an_environment_the_files_are_what_they_say(folder: Path) -> None:
    """Overlays are no tables."""
    specs = read_specs(folder)

    assert ["drafts", "orders"] == sorted(specs)
    assert ["test.shop.orders", "^test[.]shop[.]orders_[0-9]+$"] == specs["orders"].topics


def test_an_overlay_is_laid_over_the_files(folder: Path) -> None:
    """Mappings key by key, anything else in its place; null takes a key, or a table, away."""
    specs = read_specs(folder, env="prod")
    orders = specs["orders"]

    assert ["orders"] == list(specs)
    assert ["prod.shop.orders", "^prod[.]shop[.]orders_[0-9]+$"] == orders.topics
    assert ["id", "amount", "note", "paid_at"] == list(orders.columns)
    assert ("decimal(12,2)", None) == (str(orders.columns["amount"].type), orders.columns["amount"].encoding)
    assert ([], "quarantine") == (orders.features, orders.unknown_columns)
    assert (False, "Europe/Berlin") == (orders.lake.enabled, orders.lake.time_zone)


def test_topics_that_an_environment_names_itself_stay_as_they_are(folder: Path) -> None:
    """The prefix is for the others."""
    (folder / "env" / "prod.yaml").write_text(PROD.replace("  orders:\n", "  orders:\n    topics: [elsewhere]\n"))

    assert ["elsewhere"] == read_specs(folder, env="prod")["orders"].topics


def test_places_are_those_of_the_file_that_says_it(folder: Path) -> None:
    """Of the overlay, or of the table's file."""
    specs = read_specs(folder, env="prod")

    assert f"{folder / 'env' / 'prod.yaml'}:9" == specs.place("orders", "columns", "paid_at")
    assert f"{folder / 'env' / 'prod.yaml'}:4" == specs.place("orders", "unknown_columns")
    assert f"{folder / 'orders.yaml'}:7" == specs.place("orders", "columns", "note")
    assert f"{folder / 'orders.yaml'}:2" == specs.place("orders", "topics", 1)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("paid_at: timestamptz", "paid_at: timestmptz", "prod.yaml:9: columns.paid_at"),
        ("all_tables", "al_tables", "prod.yaml:3: al_tables: unknown key 'al_tables'; did you mean 'all_tables'"),
        ("  drafts: null", "  draft: null", "prod.yaml:13: no file has a table draft; did you mean 'drafts'"),
        ("instead_of: test.", "instead_of: dev.", "orders.yaml:2: test.shop.orders does not begin with dev."),
        ("topic_prefix: prod.", "topic_prefix: 'prod/'", "prod.yaml:1: topic_prefix: no name"),
        ("columns:\n", "columns: null\n    colums:\n", "prod.yaml:8: colums: unknown key"),
        (PROD, "table: prod\n", "a table's spec does not lie in `env/`"),
        (PROD, "tables: [orders]\n", "prod.yaml:1: tables: a mapping is wanted here"),
        ("  orders:\n", "  orders: [\n", "not YAML"),
        ("  orders:\n", "  orders:\n    table: other\n", "prod.yaml:7: orders: a table has one name"),
        ("all_tables:\n", "all_tables:\n  topics: [t]\n", "prod.yaml:4: all_tables: `topics` is not the same"),
    ],
)
def test_a_mistake_in_an_overlay_is_named_with_its_place(folder: Path, old: str, new: str, said: str) -> None:
    """As one in a table's file is."""
    (folder / "env" / "prod.yaml").write_text(PROD.replace(old, new, 1))

    with pytest.raises(ConfigurationError) as raised:
        read_specs(folder, env="prod")

    assert said in raised.value.message


def test_a_mistake_in_one_environment_is_found_in_all(folder: Path) -> None:
    """What is applied to one today is applied to the other tomorrow."""
    (folder / "env" / "test.yaml").write_text("tables: {oders: {}}\n")

    with pytest.raises(ConfigurationError, match=r"test\.yaml:1: no file has a table oders"):
        read_specs(folder)


@pytest.mark.parametrize(("env", "said"), [("prd", "did you mean 'prod'"), ("../../etc", "known here: prod")])
def test_an_environment_that_is_not_there_brings_the_nearest(folder: Path, env: str, said: str) -> None:
    """Nothing is read in its place."""
    with pytest.raises(ConfigurationError, match="no environment") as raised:
        read_specs(folder, env=env)

    assert said in str(raised.value)


def test_files_by_themselves_take_the_overlay_above_them(folder: Path) -> None:
    """Of a file of the folder, or of one below."""
    given = read_given([folder / "orders.yaml"], env="prod")

    assert ["prod.shop.orders", "^prod[.]shop[.]orders_[0-9]+$"] == given["orders"].topics
    assert {} == read_given([folder / "more" / "drafts.yaml"], env="prod")
    with pytest.raises(ConfigurationError, match="there is no environment 'tst'"):
        read_given([folder / "orders.yaml"], env="tst")


def test_a_table_that_is_given_twice_is_refused(folder: Path) -> None:
    """By a file and by its folder."""
    with pytest.raises(ConfigurationError, match=r"orders\.yaml:1: table orders stands there twice"):
        read_given([folder, folder / "orders.yaml"])


def test_a_file_of_one_table_holds_one(folder: Path) -> None:
    """Neither none nor two."""
    (folder / "two.yaml").write_text(ORDERS + "---\n" + ORDERS)
    (folder / "none.yaml").write_text("# nothing\n")

    assert "orders" == read_spec(folder / "orders.yaml").table
    with pytest.raises(ConfigurationError, match="holds 2 specs"):
        read_spec(folder / "two.yaml")
    with pytest.raises(ConfigurationError, match="table: this key is wanted"):
        read_spec(folder / "none.yaml")
