"""A tenant: who shares an installation with others, and whose tables and views all carry its name in front.

The name in front, up to the first dot, is all that there is of a tenant. Output topics, keys in Redis and folders of
the lake are named after tables and views, so each begins with it by construction, and a right on a prefix is a right on
one tenant. A tenant's name holds neither dot nor underscore, which Kafka takes for the same in names of topics.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

TENANT_PATTERN = r"^[a-z][a-z0-9-]{0,30}$"
TenantName = Annotated[str, Field(pattern=TENANT_PATTERN)]

_TENANT = re.compile(TENANT_PATTERN.replace("$", r"\Z"))


def is_tenant(name: object) -> bool:
    """Tell whether a tenant may have this name."""
    return isinstance(name, str) and _TENANT.match(name) is not None


def begin_of(tenant: str) -> str:
    """Return how the names of a tenant's tables and views begin."""
    return f"{tenant}."


def under(tenant: str, name: Any) -> Any:
    """Return a name with the tenant's in front of it, once; what is no name stays as it is."""
    if not isinstance(name, str) or name.startswith(begin_of(tenant)):
        return name
    return begin_of(tenant) + name


def under_tenant(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a table's spec, not read yet, with its tenant's name in front of its table and its views.

    Done twice it changes nothing: what is exported is read again as the same. What is not as it must be stays, and is
    refused where the spec is read.
    """
    tenant = document.get("tenant")
    if not is_tenant(tenant):
        return document
    assert isinstance(tenant, str), "it was looked at"
    named = {"table": under(tenant, document.get("table"))} if "table" in document else {}
    for field in ("features", "rules"):
        if isinstance(document.get(field), list):
            named[field] = [_viewed(tenant, each) for each in document[field]]
    return {**document, **named}


def _viewed(tenant: str, each: Any) -> Any:
    """Return a view or a rule with the name of the view that it is, or reads, under the tenant's."""
    if isinstance(each, Mapping) and each.get("view") is not None:
        return {**each, "view": under(tenant, each["view"])}
    return each
