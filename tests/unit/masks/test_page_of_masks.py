"""The page of masks, as it is written: its spec, its configuration, and what it computes without our code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from schemas.config import Config, read_config
from schemas.document import read_document
from schemas.mask import MASKS
from schemas.masked import keys_of, masked_spec, masks_of
from schemas.table import TableSpec
from streams.mask_values import Cipher, hashed
from tests.unit.docs.pages import ROOT, blocks_of, rows

PAGE = Path(ROOT) / "docs" / "masks.md"
SECRET = b"k" * 32


def spec_and_config() -> tuple[TableSpec, Config]:
    """Return the page's spec and its configuration."""
    spec, config = (block.text for block in blocks_of(PAGE) if block.language == "yaml")
    return read_document(spec, TableSpec, name="spec"), read_config(config, name="config")


def test_the_page_has_every_mask_and_the_keys_that_it_names() -> None:
    """In its spec and in its table."""
    spec, config = spec_and_config()

    assert set(MASKS) == {mask.how for mask in masks_of(spec).values()}
    assert set(MASKS) == {row[0].strip("`") for row in rows(PAGE, "mask")}
    assert keys_of(spec) <= config.masks.keys.keys()
    assert "ssn" not in masked_spec(spec).columns


def test_what_the_page_computes_is_what_is_written() -> None:
    """With no code of ours."""
    (block,) = (block for block in blocks_of(PAGE) if block.language == "python")
    scope: dict[str, Any] = {}
    exec(compile(block.text, block.place, "exec"), scope)  # noqa: S102 - a block of our own page

    assert hashed(SECRET)("Müller") == scope["hash_of"]("Müller", SECRET)
    assert "Müller" == scope["decrypted"](Cipher(SECRET).encrypted("Müller"), SECRET)
