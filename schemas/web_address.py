"""What the address of a server on the web looks like, for a configuration and for subscribers' settings. No I/O."""

from __future__ import annotations

from urllib.parse import urlsplit


def is_web_address(url: str) -> bool:
    """Tell whether a text is an address of http or https: with a host, without a user, a query or a fragment."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # its text may repeat a password
        return False
    plain = parts.username is None and not parts.query and not parts.fragment
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and plain
