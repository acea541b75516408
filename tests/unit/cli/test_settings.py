"""The configuration file: `${NAME}` from the environment, and errors that name line and variable."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from headgate.cli.settings import interpolate, load_config
from schemas.errors import ConfigurationError


def test_a_secret_comes_from_the_environment(tmp_path: Path) -> None:
    """The file holds a name, the environment the secret."""
    file = tmp_path / "headgate.yaml"
    file.write_text("redis:\n  url: redis://:${REDIS_PASSWORD}@cache:6379/0\n")

    config = load_config(file, {"REDIS_PASSWORD": "s3cret"})

    assert config.redis.url.get_secret_value() == "redis://:s3cret@cache:6379/0"


def test_a_variable_that_is_not_set_is_named_with_its_line(tmp_path: Path) -> None:
    """All that are missing are named at once."""
    file = tmp_path / "headgate.yaml"
    file.write_text("kafka:\n  bootstrap: ${BROKER}\nredis:\n  url: ${REDIS}\n")

    with pytest.raises(ConfigurationError) as caught:
        load_config(file, {})

    assert caught.value.message == (
        f"{file}:2: ${{BROKER}} is not set in the environment\n{file}:4: ${{REDIS}} is not set in the environment"
    )


def test_a_dollar_doubled_stays_text() -> None:
    """Who means the text itself writes $$."""
    text = interpolate("a: x$${NAME}y\n", {}, name="f")

    assert yaml.safe_load(text) == {"a": "x${NAME}y"}


def test_a_variable_stands_once_where_an_alias_repeats_it() -> None:
    """An anchor and a tag before it stay where they are."""
    text = interpolate("a: &x ${S}\nb: *x\nc: &y {d: '${S}'}\ne: *y\nf: !!int ${N}\n", {"S": "s", "N": "5"}, name="f")

    assert {"a": "s", "b": "s", "c": {"d": "s"}, "e": {"d": "s"}, "f": 5} == yaml.safe_load(text)


def test_an_alias_that_leads_back_to_itself_ends_nowhere() -> None:
    """It is the reader's to refuse."""
    assert 'a: &x [*x, "s"]' == interpolate("a: &x [*x, '${S}']", {"S": "s"}, name="f")


def test_a_number_from_the_environment_is_taken_where_a_number_is_wanted(tmp_path: Path) -> None:
    """A quoted scalar reads as a number where the model wants one."""
    file = tmp_path / "headgate.yaml"
    file.write_text("web:\n  port: ${PORT}\n")

    assert load_config(file, {"PORT": "8081"}).web.port == 8081


def test_errors_behind_a_replaced_scalar_keep_their_line(tmp_path: Path) -> None:
    """A block scalar that is replaced leaves the lines below where they were."""
    file = tmp_path / "headgate.yaml"
    file.write_text("kafka:\n  bootstrap: >-\n    ${HOST}\n    :9092\n  bootstap: x\n")

    with pytest.raises(ConfigurationError, match=r"headgate.yaml:5: kafka.bootstap: unknown key"):
        load_config(file, {"HOST": "h"})


@given(value=st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=40))
def test_no_value_can_end_its_scalar(value: str) -> None:
    """A password may hold colons, hashes, quotes and line ends; the document around it stays what it was."""
    text = interpolate("a: ${SECRET}\nb: [1, '${SECRET}']\n", {"SECRET": value}, name="f")

    assert yaml.safe_load(text) == {"a": value, "b": [1, value]}


def test_no_file_says_how_to_name_one(tmp_path: Path) -> None:
    """The hint names the option and the variable."""
    with pytest.raises(ConfigurationError) as caught:
        load_config(tmp_path / "none.yaml", {})

    assert "--config or HEADGATE_CONFIG" in caught.value.hint
