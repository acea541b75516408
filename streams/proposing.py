"""Specs proposed from what flows: topics chosen, sampled, and each table of them inferred."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from connectors.inference import Definitions, Proposal, new_samples
from connectors.transport.sampling import SampleBounds, Sampling, TopicSampled
from connectors.transport.topics import TopicAdmin
from connectors.wire import Schemas
from schemas.config import Config
from schemas.errors import ConfigurationError
from streams.settings import client_settings

TOPICS_MAX = 10_000
_INTERNAL = "__"  # the broker's own topics begin so
_DEFINITIONS = SampleBounds(records_max=20_000, bytes_max=16 * 1024 * 1024, seconds_max=15.0)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Topics to look at, sorted; those of `named` were asked for by their names, and not by a pattern."""

    topics: list[str]
    named: frozenset[str]


@dataclass(slots=True)
class Inferred:
    """What came of it. `formats` are those of topics, None where no record says it; `unproposed` formats have none.

    `defining` are the topics that say what tables are, `overlooked` counts records beyond a limit, by topic.
    """

    proposals: list[Proposal]
    sampled: dict[str, TopicSampled]
    formats: dict[str, str | None]
    can_be_proposed: frozenset[str]
    defining: set[str] = field(default_factory=set)
    overlooked: Mapping[str, int] = field(default_factory=dict)

    def state(self, topic: str) -> str:
        """Return what a topic turned out to be, in a few words."""
        sampled, found = self.sampled[topic], self.formats.get(topic)
        if any(topic in proposal.spec.topics for proposal in self.proposals):
            return str(found)
        if topic in self.defining:
            return "says what tables are"
        if not sampled.held:
            return "empty"
        if not sampled.records:
            return "not read in time" if not sampled.is_complete else "no record that is committed"
        if found is not None and found not in self.can_be_proposed:
            return f"{found}: no spec can be proposed without its schemas"
        return "no change of a row"


def choose(wanted: Iterable[str], there: Sequence[str], own_prefix: str) -> Chosen:
    """Return the topics that are meant by names and by regular expressions, which begin with ^ as in a spec.

    A pattern passes over topics of ours and of the broker's.

    Raises:
        ConfigurationError: there is no such topic, or a pattern is none or catches none.
    """
    known = set(there)
    found: dict[str, None] = {}
    named = set()
    for text in wanted:
        if text.startswith("^"):
            caught = [topic for topic in _caught(text, there) if not is_own(topic, own_prefix)]
            if not caught:
                raise ConfigurationError(
                    f"no topic matches {text}", hint="a pattern is matched from a name's beginning"
                )
            found |= dict.fromkeys(caught)
            continue
        if text not in known:
            raise no_topic(text, there)
        if is_own(text, own_prefix):
            raise ConfigurationError(
                f"{text} is one of our own topics, or of the broker's", hint="name a source's topic"
            )
        named.add(text)
        found[text] = None
    if len(found) > TOPICS_MAX:
        raise ConfigurationError(f"{len(found)} topics are meant, above {TOPICS_MAX}", hint="name fewer at once")
    return Chosen(sorted(found), frozenset(named))


def no_topic(name: str, there: Sequence[str]) -> ConfigurationError:
    """Return the error for a topic that is not there, with the nearest one."""
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else "look at its name, and at kafka.bootstrap"
    if re.search(r"[^A-Za-z0-9._-]", name):
        hint = "a regular expression begins with ^"
    return ConfigurationError(f"there is no topic {name}", hint=hint)


def is_own(topic: str, own_prefix: str) -> bool:
    """Tell whether a topic is one of ours, or of the broker's."""
    return topic.startswith((f"{own_prefix}.", _INTERNAL))


def _caught(text: str, there: Iterable[str]) -> list[str]:
    try:
        pattern = re.compile(text)
    except re.error as exc:
        raise ConfigurationError(f"{text} is no regular expression: {exc}", hint="^ begins a pattern") from exc
    return [topic for topic in there if pattern.match(topic)]


def infer(
    config: Config,
    admin: TopicAdmin,
    chosen: Sequence[str],
    *,
    bounds: SampleBounds,
    formats: Mapping[str, str],
    defining: Sequence[str] = (),
    schemas: Schemas | None = None,
    on_wave: Callable[[int], None] = lambda _topics: None,
) -> Inferred:
    """Return what samples of topics propose; `formats` are told by topic, `defining` may say what tables are.

    Raises:
        SourceUnavailable, RegistryUnavailable: Kafka, or the schema registry, does not answer.
        ConfigurationError: the broker refuses.
    """
    definitions = Definitions()
    told: set[str] = set()
    client = client_settings(config)
    if defining:
        with closing(iter(Sampling(defining, client, admin, _DEFINITIONS))) as records:
            told = {record.topic for record in records if definitions.add(record)}
    samples = new_samples(schemas=schemas, definitions=definitions)
    for topic, name in formats.items():
        samples.know(topic, name)

    def after_wave(topics: int) -> None:
        samples.absorb()
        on_wave(topics)

    sampling = Sampling(chosen, client, admin, bounds, on_wave=after_wave)
    with closing(iter(sampling)) as records:
        for record in records:
            samples.add(record)
    return Inferred(
        [each for each in samples.tables() if not each.signals],
        sampling.topics,
        dict(samples.formats),
        frozenset(samples.samplers),
        told & set(chosen),
        samples.overlooked,
    )


def may_define(chosen: Iterable[str], there: Sequence[str]) -> list[str]:
    """Return the topics that a connector may write definitions to: it is called as what its topics begin with."""
    known, found = set(there), set()
    for topic in chosen:
        parts = topic.split(".")
        found |= {".".join(parts[:end]) for end in range(1, len(parts))}
    return sorted(found & known)
