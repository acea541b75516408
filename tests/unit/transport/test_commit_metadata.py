"""The text beside a committed offset."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.transport.commit_metadata import COMMIT_METADATA_BYTES_MAX, CommitMetadata, read_commit_metadata
from schemas.errors import BugError, ConfigurationError


@given(
    st.from_regex(r"[A-Za-z0-9+/]{22}", fullmatch=True) | st.just(""),
    st.integers(0, 10**6),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
)
def test_what_is_written_is_read_again(topic_id: str, generation: int, stage: str) -> None:
    """Any text of a stage survives, spaces and line ends included."""
    written = CommitMetadata(topic_id, generation, stage)

    assert written == read_commit_metadata(written.text())


def test_the_layout_is_frozen() -> None:
    """It persists in Kafka."""
    assert 'v1 AAAA 3 {"previous": 4}' == CommitMetadata("AAAA", 3, '{"previous": 4}').text()
    assert "v1 - 0" == CommitMetadata().text()


@pytest.mark.parametrize("foreign", [None, "", "something", "v1", "v1 only", "v1 id x rest"])
def test_what_others_wrote_is_no_claim(foreign: str | None) -> None:
    """A group that another tool committed for is taken up without an id."""
    assert read_commit_metadata(foreign) is None


def test_a_newer_version_is_refused() -> None:
    """A worker migrates what it knows and refuses what it does not."""
    with pytest.raises(ConfigurationError, match="newer"):
        read_commit_metadata("v2 AAAA 0 text")


def test_more_than_the_broker_takes_is_refused_before_it_is_sent() -> None:
    """Bytes are counted, not characters."""
    room = COMMIT_METADATA_BYTES_MAX - len("v1 - 0 ")
    assert COMMIT_METADATA_BYTES_MAX == len(CommitMetadata(stage="x" * room).text())

    with pytest.raises(BugError, match="4095"):
        CommitMetadata(stage="ü" * (room // 2 + 1)).text()
