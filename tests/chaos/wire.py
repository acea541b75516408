"""What stands between the workers of a run and their four peers, where a case plants faults there.

Each peer has a proxy with toxics; behind it Redis and S3 have a layer that knows their language. Oracles and the source
do not come through any of it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import s3fs

from tests.faults import Proxy, RedisAnswers, S3Answers
from tests.faults.manners import Manner
from tests.services import S3, Kafka, Listener, RedisServer, Services

PEERS = ("kafka", "redis", "s3", "webhook")


@dataclass(slots=True)
class Wire:
    """Three services and the lines to them; the line to the webhook begins once its port is known (`listen`)."""

    kafka: Kafka
    listener: Listener  # of the broker, for those who come through the proxy
    redis: RedisServer
    s3: S3
    seed: int
    services: Services  # for what a case needs besides
    bucket: str = field(default_factory=lambda: f"chaos-{uuid.uuid4().hex[:12]}")
    proxies: dict[str, Proxy] = field(default_factory=dict)
    redis_answers: RedisAnswers = field(init=False)
    s3_answers: S3Answers = field(init=False)
    _files: Any = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def listen(self, webhook_url: str) -> None:
        """Have everything listen."""
        begin: Callable[[Any], Any] = self._stack.enter_context
        self.redis_answers = begin(RedisAnswers(f"{self.redis.host}:{self.redis.port}"))
        self.s3_answers = begin(S3Answers(self.s3.endpoint, seed=self.seed))
        at = int(self.listener.advertised.rpartition(":")[2])
        targets = {
            "kafka": self.listener.address,
            "redis": self.redis_answers.address,
            "s3": self.s3_answers.address,
            "webhook": urlsplit(webhook_url).netloc,
        }
        for peer, target in targets.items():
            self.proxies[peer] = begin(Proxy(target, port=at if peer == "kafka" else None, seed=self.seed))
        self.files().mkdir(self.bucket)

    @property
    def bootstrap(self) -> str:
        """Where workers find Kafka."""
        return self.proxies["kafka"].address

    @property
    def redis_url(self) -> str:
        """Where workers find Redis."""
        return f"redis://{self.proxies['redis'].address}/{self.redis.database}"

    def webhook_url(self, url: str) -> str:
        """Return where workers find the receiver that listens at `url`."""
        return urlsplit(url)._replace(netloc=self.proxies["webhook"].address).geturl()

    def lake(self, catalog: str) -> dict[str, Any]:
        """Return the configuration of a lake on S3, for workers."""
        return {
            "warehouse": f"s3://{self.bucket}/wh", "catalog_uri": catalog, "s3_region": "us-east-1",
            "s3_endpoint": f"http://{self.proxies['s3'].address}",
            "s3_access_key": self.s3.access_key, "s3_secret_key": self.s3.secret_key,
        }  # fmt: skip

    def storage(self) -> Mapping[str, str]:
        """Return what an oracle reads the lake's files with, directly."""
        return {
            "s3.endpoint": self.s3.endpoint, "s3.region": "us-east-1",
            "s3.access-key-id": self.s3.access_key, "s3.secret-access-key": self.s3.secret_key,
        }  # fmt: skip

    def files(self) -> Any:
        """Return a client of the S3 server, which does not come through here."""
        if self._files is None:
            self._files = s3fs.S3FileSystem(**self.s3.storage_options(), use_listings_cache=False)
        return self._files

    def clear(self) -> None:
        """Have no fault anywhere."""
        for proxy in self.proxies.values():
            proxy.clear()
        self.redis_answers.put(Manner.TAKE)
        self.s3_answers.put(Manner.TAKE)
