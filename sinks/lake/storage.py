"""Where the lake lies: its catalogue, and the file system under it.

A folder needs nothing: the catalogue is a SQLite file in it. An `s3://` warehouse is shared by several machines, so its
catalogue must be one that they share.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import fsspec
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchNamespaceError
from pyiceberg.io.fsspec import FsspecFileIO
from sqlalchemy import inspect
from sqlalchemy.exc import IntegrityError, OperationalError

from schemas.config import LakeConfig
from schemas.errors import ConfigurationError, SinkUnavailable

CATALOG_FILE = "catalog.db"
CATALOG_NAME = "headgate"
S3_SCHEMES = ("s3", "s3a", "s3n")
_CREATE_ATTEMPTS = 5


class LakeFileIO(FsspecFileIO):
    """s3fs as Iceberg's file system, with checksums only where S3 asks for them.

    Newer clients of AWS add a checksum to every request by default, which other S3 servers answer with an error
    (botocore's `request_checksum_calculation`); pyiceberg has no property for it.
    """

    def get_fs(self, scheme: str, hostname: str | None = None) -> Any:
        """Return the file system of a scheme; for S3, one for all threads."""
        if scheme not in S3_SCHEMES:
            return super().get_fs(scheme, hostname)
        names = ("s3.endpoint", "s3.access-key-id", "s3.secret-access-key", "s3.region", "s3.session-token")
        return _s3(*(self.properties.get(name) for name in names))


@lru_cache(maxsize=32)
def _s3(
    endpoint: str | None, access_key: str | None, secret_key: str | None, region: str | None, token: str | None = None
) -> Any:
    """Return one file system per account; nothing given means the client's own search for credentials.

    A REST catalogue may lend keys, of one table each and for an hour or so, which count with their `token` only.
    """
    import s3fs  # noqa: PLC0415 - with the clients of AWS 15 MB, which a lake in a folder does not need

    return s3fs.S3FileSystem(
        key=access_key,
        secret=secret_key,
        token=token,
        endpoint_url=endpoint,
        client_kwargs={"region_name": region} if region else {},
        config_kwargs={
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        },
        use_listings_cache=False,
        skip_instance_cache=True,
    )


def is_s3(config: LakeConfig) -> bool:
    """Say whether the warehouse is an S3 address."""
    return config.warehouse.startswith(tuple(f"{scheme}://" for scheme in S3_SCHEMES))


def file_system(config: LakeConfig) -> Any:
    """Return the fsspec file system of the warehouse, for listing and for queries."""
    if not is_s3(config):
        return fsspec.filesystem("file")
    secret = {name: value.get_secret_value() if value else None for name, value in _keys(config).items()}
    return _s3(config.s3_endpoint, secret["s3.access-key-id"], secret["s3.secret-access-key"], config.s3_region)


def open_catalog(config: LakeConfig) -> Catalog:
    """Return the catalogue, with the namespace of the lake in it.

    Raises:
        ConfigurationError: an `s3://` warehouse without a shared catalogue, or a catalogue without its address.
    """
    properties = _properties(config)
    catalog = _created(properties)
    try:
        catalog.create_namespace_if_not_exists(config.namespace)
    except (NamespaceAlreadyExistsError, IntegrityError):  # another worker was faster; a SQL catalogue says the latter
        assert catalog.namespace_exists(config.namespace), "somebody created it just now"
    return catalog


def is_made(config: LakeConfig) -> bool:
    """Tell whether there is a catalogue to be asked; only one in a folder of this machine may not be there yet.

    Raises:
        SinkUnavailable: it is not there, and this user may not make it.
    """
    if is_s3(config) or config.catalog != "sql" or config.catalog_uri is not None:
        return True
    folder = Path(config.warehouse).absolute()
    if (folder / CATALOG_FILE).exists():
        return True
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise SinkUnavailable(
            f"{config.warehouse} cannot be made: {there} is no folder that this user may write",
            hint="set lake.warehouse to a folder that you may write, or to an s3:// address",
        )
    return False


def list_tables(config: LakeConfig) -> list[str]:
    """Return the names of the lake's tables; nothing is made, neither folder nor namespace.

    Raises:
        ConfigurationError: as `open_catalog`.
    """
    properties = _properties(config, makes=False)
    catalog = _created({**properties, "init_catalog_tables": "false"})
    if isinstance(catalog, SqlCatalog) and not inspect(catalog.engine).has_table(IcebergTables.__tablename__):
        return []
    try:
        return sorted(identifier[-1] for identifier in catalog.list_tables(config.namespace))
    except NoSuchNamespaceError:
        return []


def _created(properties: dict[str, str]) -> Catalog:
    """Return the catalogue; several workers may create the tables of a new SQL one at the same time."""
    for attempt in range(_CREATE_ATTEMPTS):
        try:
            return load_catalog(CATALOG_NAME, **properties)
        except OperationalError:
            if attempt == _CREATE_ATTEMPTS - 1:
                raise
    raise AssertionError("the last attempt returns or raises")


def _keys(config: LakeConfig) -> dict[str, Any]:
    return {"s3.access-key-id": config.s3_access_key, "s3.secret-access-key": config.s3_secret_key}


def _properties(config: LakeConfig, *, makes: bool = True) -> dict[str, str]:
    uri = config.catalog_uri.get_secret_value() if config.catalog_uri else None
    if uri is None and config.catalog == "rest":
        raise ConfigurationError("lake.catalog: rest needs lake.catalog_uri", hint="write the address of the catalogue")
    properties: dict[str, str] = {"type": config.catalog}
    if is_s3(config):
        if uri is None and config.catalog == "sql":
            raise ConfigurationError(
                f"lake.warehouse {config.warehouse} is shared, and the catalogue is not",
                hint="set lake.catalog to rest or glue, or lake.catalog_uri to a database that all workers reach",
            )
        properties |= {"warehouse": config.warehouse.rstrip("/"), "py-io-impl": f"{__name__}.{LakeFileIO.__name__}"}
    else:
        folder = Path(config.warehouse).absolute()
        if makes:
            folder.mkdir(parents=True, exist_ok=True)
        uri = uri or (f"sqlite:///{folder / CATALOG_FILE}" if config.catalog == "sql" else None)
        properties["warehouse"] = str(folder)
    optional: dict[str, str | None] = {"uri": uri, "s3.endpoint": config.s3_endpoint, "s3.region": config.s3_region}
    optional |= {name: value.get_secret_value() if value else None for name, value in _keys(config).items()}
    return {**properties, **{name: value for name, value in optional.items() if value is not None}}
