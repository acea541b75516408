"""Masks: what becomes of a column's values before anything is written, and what type is left of it.

| mask       | what is written                                              | type of the column then                |
|------------|--------------------------------------------------------------|----------------------------------------|
| `drop`     | nothing: the column is not there                              | none                                   |
| `null`     | null                                                          | its own                                |
| `hash`     | HMAC-SHA256 of the value's text, 64 hexadecimal digits        | string                                 |
| `token`    | a pseudonym of its kind: a number, a UUID, else 32 digits     | long, uuid, else string                |
| `truncate` | its first characters; of a date or time its month or year     | string; of dates and times their own   |
| `encrypt`  | `hgm1.<key>.<AES-GCM>`, which who has the key reads           | string                                 |

Null stays null, absent stays absent, unavailable stays unavailable. Hash, token and encrypt give one value one text.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from schemas.document import Strict, without_defaults
from schemas.types import ColumnType, Kind

DROP, NULL, HASH, TOKEN, TRUNCATE, ENCRYPT = "drop", "null", "hash", "token", "truncate", "encrypt"
MASKS = (DROP, NULL, HASH, TOKEN, TRUNCATE, ENCRYPT)
YEAR, MONTH = "year", "month"
DEFAULT_KEY = "default"
CHARACTERS_MAX = 10_000

KEYED = frozenset({HASH, TOKEN, ENCRYPT})
PINNED = frozenset({HASH, TOKEN})  # another secret would make another column of it: it does not change unseen
OF_KEYS = frozenset({HASH, TOKEN})  # one value has one text, and no two have the same

_DATED = frozenset({Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMPTZ})
_TEXTS = frozenset({Kind.STRING, Kind.JSON, Kind.UUID})
_WHOLE = frozenset({Kind.INT, Kind.LONG})
_STRING, _LONG = ColumnType(Kind.STRING), ColumnType(Kind.LONG)

KeyName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]


class Mask(Strict):
    """One mask: `to` says of `truncate` how many characters are left, or `year` or `month`; `key` names a key.

    Where `key` is None, it is the one that the table's `masks` names.
    """

    how: str
    to: int | str | None = None
    key: KeyName | None = None

    @field_validator("how")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in MASKS:
            raise ValueError(f"no mask is called {value!r}; write one of {', '.join(MASKS)}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.how != TRUNCATE and self.to is not None:
            raise ValueError(f"`to` says what truncate leaves; {self.how} has none")
        if self.how == TRUNCATE and not self._says_what_is_left():
            raise ValueError(
                f"truncate: say in `to` how many characters are left (0 to {CHARACTERS_MAX}), or {YEAR} or {MONTH}, as "
                "in {how: truncate, to: 3}"
            )
        if self.key is not None and self.how not in KEYED:
            raise ValueError(f"{self.how} needs no key")
        return self

    @model_serializer(mode="wrap")
    def _as_people_write_it(self, write: SerializerFunctionWrapHandler) -> Any:
        document = {name: value for name, value in write(self).items() if value is not None}
        return self.how if document.keys() == {"how"} else document

    def _says_what_is_left(self) -> bool:
        if isinstance(self.to, bool):
            return False
        return 0 <= self.to <= CHARACTERS_MAX if isinstance(self.to, int) else self.to in {YEAR, MONTH}


def read_mask(value: Any) -> Any:
    """Return what stands for a mask in a document as its model takes it; YAML's null is the mask of that name."""
    if value is None:
        return {"how": NULL}
    return {"how": value} if isinstance(value, str) else value


# Left out means no mask, and null is one: nothing that stands there with nothing behind it passes a value.
MaskOrNone = Annotated[Mask | None, BeforeValidator(read_mask)]


class Masks(Strict):
    """What holds for all masks of a table: the name of their key, and the mask of columns that nobody has named yet."""

    key: KeyName = DEFAULT_KEY
    unknown_columns: MaskOrNone = None

    @field_validator("unknown_columns")
    @classmethod
    def _for_any_type(cls, value: Mask | None) -> Mask | None:
        if value is not None and value.how == TRUNCATE:
            raise ValueError("truncate is not for columns of every type; write drop, null, hash, token or encrypt")
        return value

    @model_serializer(mode="wrap")
    def _without_none(self, write: SerializerFunctionWrapHandler) -> Any:
        return without_defaults(self, write(self), ("unknown_columns",))  # written, it would be the mask null


def masked_type(type_: ColumnType, mask: Mask | None) -> ColumnType | None:
    """Return the type that a mask leaves, None where it leaves no column.

    Raises:
        ValueError: the mask is not one of this type.
    """
    if mask is None or mask.how == NULL:
        return type_
    match mask.how:
        case "drop":
            return None
        case "token" if type_.kind in _WHOLE:
            return _LONG  # of an int too: a column that becomes a long keeps its tokens
        case "token" if type_.kind is Kind.UUID:
            return type_
        case "truncate":
            return _truncated_type(type_, mask.to)
    return _STRING


def _truncated_type(type_: ColumnType, to: int | str | None) -> ColumnType:
    if to in {YEAR, MONTH}:
        if type_.kind in _DATED:
            return type_
        if type_.kind is not Kind.STRING:  # a date may become a text, and then keeps as many of its characters
            raise ValueError(f"truncate to a {to} is for dates and timestamps, not for {type_}")
        return _STRING
    if type_.kind not in _TEXTS:
        raise ValueError(f"truncate to characters is for string, json and uuid, not for {type_}")
    return _STRING
