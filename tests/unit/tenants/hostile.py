"""Names that somebody may have chosen to do harm, or by accident, in a source that we do not know."""

from __future__ import annotations

HOSTILE = [
    "../../etc/passwd",
    "..",
    "a/b",
    "\0",
    "a\0b",
    'it\'s "quoted" `so`',
    "'; DROP TABLE patients; --",
    "x" * 10_000,
    "\u202egnp.exe\u202c",
    "\u200f\u2066a\u2069",
    "100%25 %s %(x)s {x} ${HOME}",
    "{b0}:f:zeta.patient.1:1",
    "1}:f:zeta.patient.1:1",
    "a\nb\r\nc\td",
    "\x1b]0;title\x07\x1b[2J\x9b2J",
    "<script>alert('x')</script>&amp;",
    "*",
    "[a-z]?\\",
    "a:b|c,d",
    "größe 🏥",
    " ",
    "-rf",
    ".p",
    "_hg_op",
]
