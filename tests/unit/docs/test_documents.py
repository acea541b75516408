"""README, docs and the other pages show what works: blocks are read, commands parsed, links followed."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
import yaml

import tests.services
from headgate.cli.verbs import app
from schemas.change import ChangeValue
from schemas.compatibility import INSTEAD
from schemas.config import MIB, Config, LakeConfig, read_config
from schemas.document import read_document
from schemas.feature_update import FeatureUpdate
from schemas.risk import RISKS, Level
from schemas.table import TableSpec
from schemas.topics import TopicNames
from schemas.versions import FORMS
from streams.apply import check_specs
from streams.registration import own_topic, own_topics
from streams.specs import Overlay
from tests.services import Connector, Kafka, RedisServer
from tests.unit.docs.pages import (
    PAGES,
    ROOT,
    Block,
    Command,
    anchors,
    blocks,
    blocks_of,
    commands,
    links,
    place,
    prose,
    rows,
    shell_words,
)

LANGUAGES = {"yaml", "json", "sh", "python", "text", ""}
DESTINATION = {"url": "https://example.org/hooks/ward", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
HOSTS = {"www.standardwebhooks.com", "example.org"}
HOST = re.compile(r"\b(?:[a-z0-9-]+\.)+(?:com|org|net|io|dev)\b")
FILE_OF_OURS = re.compile(r"`((?:schemas|connectors|sinks|streams|headgate|tests|docs|docker)/[\w./-]*)`")


def block_id(value: object) -> str:
    """Name a case by where it stands."""
    return value.place if isinstance(value, Block | Command) else str(value)


def read_yaml(block: Block) -> Config | TableSpec | Overlay:
    """Read a block of YAML with the model it is for; a table's spec names its table, an overlay the tables' topics."""
    if "table" in (content := yaml.safe_load(block.text)):
        return read_document(block.text, TableSpec, name=block.place)
    if "topic_prefix" in content:
        return read_document(block.text, Overlay, name=block.place)
    return read_config(block.text, name=block.place)


def parse(words: tuple[str, ...]) -> None:
    """Parse a command line as typer does, without running anything; what it does not take is a usage error."""
    command: Any = typer.main.get_command(app)
    rest, name = list(words), "headgate"
    while getattr(command, "commands", None) and rest and not rest[0].startswith("-"):
        default = getattr(command, "default_verb", None)  # `headgate contract TABLE`: a table is no verb
        name = rest.pop(0) if default is None or rest[0] in command.commands else default
        assert name in command.commands, f"no verb {name!r}"
        command = command.commands[name]
    # In running text a verb often stands without what it takes; its options must be right all the same.
    command.make_context(name, rest, resilient_parsing=not rest)


def topic_row(topic: str, config: Config) -> list[str]:
    """Return what the table of topics must say of a topic, from the code that makes it."""
    made = own_topic(config, topic, partitions=4711)
    days = "" if made.retention_seconds is None else f"{made.retention_seconds / 86_400:g} days"
    names = TopicNames()
    if topic in {names.changes("<table>"), names.features("<view>")}:
        days = f"`kafka.changes_retention_hours` ({days})"
    if topic in {names.quarantine, names.quarantine_settled, names.redrive, names.parked("<table>")}:
        longer = " and 30 days more" if topic == names.quarantine_settled else ""
        days = f"`kafka.quarantine_retention_hours`{longer} ({days})"
    cleanup = made.config()["cleanup.policy"].replace(",", " and ")
    spread = "8, or fewer that divide `redis.buckets`"
    told = {names.features("<view>"): spread, names.latest("<table>"): spread, names.relay: "as `redis.buckets`"}
    of = {names.alerts_state("<view>"): "the view's topic", names.redrive: "the largest source topic"}.get(
        topic, "its largest source topic"
    )
    partitions = told.get(topic) or str(made.partitions).replace("4711", f"as {of}")
    return [f"`{topic}`", partitions, f"{cleanup}, {days}" if days else cleanup]


def written(default: object) -> str:
    """Return a default as pages write it."""
    match default:
        case None:
            return "none"
        case int() if default >= MIB and default % MIB == 0:
            return f"{default // MIB} MiB"
        case int() | float():
            return f"{default:g}" if default < 10_000 else f"{default:,}".replace(",", " ")
        case _:
            return f"`{default}`"


def test_every_block_is_in_a_language_that_is_tested() -> None:
    """A block of another one would be shown and never tried."""
    found = blocks()

    assert {"yaml", "json", "sh", "python"} <= {block.language for block in found}
    assert [] == [block.place for block in found if block.language not in LANGUAGES]


@pytest.mark.parametrize("block", blocks("yaml"), ids=block_id)
def test_yaml_is_what_its_model_takes(block: Block) -> None:
    """A configuration, or a table's spec whose rules compile."""
    read = read_yaml(block)

    if isinstance(read, TableSpec):
        check_specs({read.table: read}, Config.model_validate({"notify": {"ward": DESTINATION}}))


@pytest.mark.parametrize("block", blocks("json"), ids=block_id)
def test_json_parses_and_a_record_is_one_of_its_topic(block: Block) -> None:
    """A change of the contract, or a feature update: with all its fields, and no other."""
    read = json.loads(block.text)

    if "op" in read:
        record = msgspec.json.decode(block.text, type=FeatureUpdate if "view" in read else ChangeValue)
        assert read == json.loads(msgspec.json.encode(record))


@pytest.mark.parametrize("command", commands(), ids=block_id)
def test_every_command_exists_with_its_options(command: Command) -> None:
    """In blocks, in examples of `--help`, and in running text."""
    numbers = {"PARTITION": "0", "OFFSET": "0", "N": "0"}

    parse(tuple(numbers.get(word, word) for word in command.words))


@pytest.mark.parametrize(
    "line",
    ["headgate frobnicate", "headgate status --frobnicate", "headgate tables stop patients", "headgate run --slot x"],
)
def test_a_wrong_command_is_found(line: str) -> None:
    """The parser of these tests can fail."""
    (words,) = shell_words(line)

    with pytest.raises(Exception, match=r"no verb|No such option|a valid integer"):
        parse(words[1:])


@pytest.mark.parametrize("block", blocks("sh"), ids=block_id)
def test_shell_uses_what_is_there(block: Block) -> None:
    """Headgate's verbs, targets of make, and the compose file."""
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    known: dict[str, Callable[[list[str]], bool]] = {
        "headgate": lambda _: True,  # parsed by a test of its own
        "make": lambda words: set(words) <= set(targets),
        "docker": lambda words: words[:2] == ["compose", "up"] and (ROOT / "docker-compose.yml").exists(),
    }

    for line in block.text.splitlines():
        for name, *words in shell_words(line):
            assert name in known, f"{block.place}: say here how {name} is tested"
            assert known[name](words), f"{block.place}: {name} {' '.join(words)}"


@pytest.mark.parametrize("block", blocks("python"), ids=block_id)
def test_python_compiles_and_names_what_is_there(block: Block) -> None:
    """Methods of the services that it uses exist; the subscriber's rule runs in a test of its own."""
    classes = {"kafka": Kafka, "broker": Kafka, "redis": RedisServer, "connector": Connector}
    tree = ast.parse(block.text, block.place)
    used = [
        (node.value.id, node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in classes
    ]
    if block.page.name == "CONTRIBUTING.md":
        assert used, "the example uses services"
        # Annotations are looked up when the functions are made.
        exec(  # noqa: S102 - a block of our own page
            compile(tree, block.place, "exec"), {**vars(tests.services), "Callable": Callable}
        )

    assert [] == [f"{name}.{attribute}" for name, attribute in used if not hasattr(classes[name], attribute)]


def test_the_subscribers_rule_drops_repeats_and_keeps_streams_apart() -> None:
    """The block of the contract's page, over a history with a repeat, a replay from earlier and two streams."""
    block, _ = _code_of_the_contract()
    (example,) = (block for block in blocks_of(ROOT / "docs" / "contract.md") if block.language == "json")
    code = compile(block.text, block.place, "exec")
    history = [("a", 0, 0, 0), ("a", 0, 0, 1), ("a", 0, 1, 0), ("a", 0, 0, 1), ("a", 0, 0, 0), ("a", 0, 0, 4),
               ("a", 1, 0, 0), ("b", 0, 0, 3), ("a", 0, 0, 4, 1), ("a", 0, 0, 4), ("a", 0, 0, 4, 1),
               ("a", 0, 0, 4, 2)]  # fmt: skip
    handled: list[dict[str, Any]] = []
    highest: dict[tuple[str, int, int], list[int]] = {}
    for origin in history:
        change = json.loads(example.text)
        change["source"]["origin"] = list(origin)
        exec(code, {"change": change, "highest": highest, "handle": handled.append})  # noqa: S102 - our own page

    expected = [("a", 0, 0, 0), ("a", 0, 0, 1), ("a", 0, 1, 0), ("a", 0, 0, 4), ("a", 1, 0, 0), ("b", 0, 0, 3),
                ("a", 0, 0, 4, 1), ("a", 0, 0, 4, 2)]  # fmt: skip
    assert expected == [tuple(change["source"]["origin"]) for change in handled]


def _code_of_the_contract() -> tuple[Block, Block]:
    """Return the subscriber's rule, and what a subscriber does with a floor."""
    rule, floors = (block for block in blocks_of(ROOT / "docs" / "contract.md") if block.language == "python")
    return rule, floors


def test_what_a_subscriber_does_with_a_floor_drops_what_is_below_it() -> None:
    """The other block of the contract's page: it only rises, and what is there from it on stays."""
    _, block = _code_of_the_contract()
    scope: dict[str, Any] = {"floor": "", "rows": {n: {"position": f"{n:045d}"} for n in range(5)}}
    for position in (3, 1, 3):
        scope["change"] = {"op": "floor", "position": f"{position:045d}"}
        exec(compile(block.text, block.place, "exec"), scope)  # noqa: S102 - our own page

    assert ([3, 4], f"{3:045d}") == (list(scope["rows"]), scope["floor"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    """Relative ones; addresses elsewhere are only compared with the list of hosts."""
    broken = []
    for number, target in links(page):
        if re.match(r"^[a-z]+://", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(f"{place(page, number)}: {target}")

    assert [] == broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_ours_that_a_page_names_exist(page: Path) -> None:
    """A module that was moved is moved in the pages too."""
    named = [(number, path) for number, line in prose(page) for path in FILE_OF_OURS.findall(line)]

    assert [] == [f"{place(page, number)}: {path}" for number, path in named if not (ROOT / path).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_other_host_is_named(page: Path) -> None:
    """Neither a registry's nor a machine's of ours: pages work in every network."""
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), start=1)
    named = [(number, host) for number, line in lines for host in HOST.findall(line)]

    assert [] == [f"{place(page, number)}: {host}" for number, host in named if host not in HOSTS]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_dash_longer_than_ours(page: Path) -> None:
    """House style: a colon or a full stop."""
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), start=1)

    assert [] == [place(page, number) for number, line in lines if "\N{EM DASH}" in line]


def test_every_page_is_found_from_the_readme() -> None:
    """A page without a link is a page that nobody reads."""
    linked = {(ROOT / target.partition("#")[0]).resolve() for _, target in links(ROOT / "README.md")}

    assert set() == {page for page in PAGES if page.name != "README.md"} - linked


def test_the_table_of_topics_is_what_the_code_makes() -> None:
    """Names, partitions and retention of all our topics."""
    config, names = Config(), TopicNames()
    waiting = f"{names.alerts_retry_prefix}<destination>.<delay>s"
    by_need = [names.changes("<table>"), names.features("<view>"), names.relay, names.alerts_state("<view>"), waiting]
    by_need += [names.latest("<table>"), names.parked("<table>")]
    made = sorted([*own_topics(config), *by_need])

    found = [row[:3] for row in rows(ROOT / "docs" / "topics.md", "topic")]

    assert sorted(topic_row(topic, config) for topic in made) == sorted(found)


def test_the_table_of_versions_is_what_the_code_knows() -> None:
    """What is versioned, where, and which versions this release writes and reads."""
    known = [
        [form.name, form.where, form.stands_in, str(form.writes), ", ".join(map(str, form.reads))] for form in FORMS
    ]

    assert known == rows(ROOT / "docs" / "upgrade.md", "what")


def test_the_table_of_risks_is_what_the_code_knows() -> None:
    """Each by its name, with what it means and how it is settled."""
    known = [
        [f"`{name}`{' (a note)' if risk.level is Level.NOTE else ''}", risk.what, risk.settle]
        for name, risk in RISKS.items()
    ]
    told = [row for row in rows(ROOT / "docs" / "tables.md", "risk") if row[0].startswith("`")]

    assert known == told


def test_the_settings_of_the_lake_are_those_of_the_code() -> None:
    """Every key with its default."""
    told: dict[str, str] = {}
    for keys, defaults, _ in rows(ROOT / "docs" / "lake.md", "key"):
        names = re.findall(r"`(\w+)`", keys)
        values = defaults.split(", ") if ", " in defaults else [defaults] * len(names)
        told |= dict(zip(names, values, strict=True))

    assert {name: written(value) for name, value in LakeConfig().model_dump().items()} == told


def test_the_changelog_is_of_this_version_and_in_order() -> None:
    """Security, Removed, Changed, Added, Fixed; each at most once in a version."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    order = ["Security", "Removed", "Changed", "Added", "Fixed"]
    headings = re.findall(r"^(##+) (.+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    versions: list[list[str]] = []
    for level, text in headings:
        versions += [[text]] if level == "##" else []
        versions[-1] += [text] if level == "###" else []

    assert version == versions[0][0].split()[0]
    assert [each[1:] for each in versions] == [[name for name in order if name in each] for each in versions]


def test_the_rules_of_the_contract_are_those_of_the_code() -> None:
    """What to do instead of what breaks those who read a table."""
    known = {f"`{rule}`": instead for rule, instead in INSTEAD.items()}

    assert known == {rule: instead for rule, instead in rows(ROOT / "docs" / "tables.md", "rule")}
