"""An object store as Amazon's S3 is one, on loopback (moto), to which the environment sends whoever asks for one."""

from __future__ import annotations

import json
import logging
import os
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

KEY, SECRET = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
_SETTINGS = {KEY: "nobody", SECRET: "nothing", "AWS_EC2_METADATA_DISABLED": "true", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass(frozen=True)
class ObjectStore:
    """A store that runs.

    Attributes:
        url: Where it answers.
        client: Of boto3, for its objects.
    """

    url: str
    client: Any

    def put(self, content: dict[str, bytes], bucket: str) -> None:
        """Write objects by their keys; the bucket is made if it is not there."""
        self.client.create_bucket(Bucket=bucket)
        for key, data in content.items():
            self.client.put_object(Bucket=bucket, Key=key, Body=data)

    def put_folder(self, folder: Path, bucket: str, prefix: str) -> None:
        """Write what lies in a folder."""
        files = (path for path in folder.rglob("*") if path.is_file())
        self.put({f"{prefix}/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in files}, bucket)

    def remove(self, bucket: str, key: str) -> None:
        """Remove an object."""
        self.client.delete_object(Bucket=bucket, Key=key)

    def reader(self, bucket: str | None) -> dict[str, str]:
        """Return credentials, as the environment names them, of somebody who may read a bucket, or nothing."""
        import boto3

        people, name = boto3.client("iam", endpoint_url=self.url), f"reads-{bucket}"
        people.create_user(UserName=name)
        if bucket is not None:
            what, where = ["s3:GetObject", "s3:ListBucket"], f"arn:aws:s3:::{bucket}"
            allowed = {"Effect": "Allow", "Action": what, "Resource": [where, f"{where}/*"]}
            people.put_user_policy(
                UserName=name,
                PolicyName="reads",
                PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allowed]}),
            )
        made = people.create_access_key(UserName=name)["AccessKey"]
        return {KEY: made["AccessKeyId"], SECRET: made["SecretAccessKey"]}

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Have it check signatures and who may read what."""
        self._check_from("0")
        try:
            yield
        finally:
            self._check_from("inf")

    def _check_from(self, request: str) -> None:
        plain, place = {"Content-Type": "text/plain"}, f"{self.url}/moto-api/reset-auth"
        with urllib.request.urlopen(urllib.request.Request(place, request.encode(), plain)) as answer:
            assert answer.status == 200


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Run a store; the environment sends to it until the block ends."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # else a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    settings = {"AWS_ENDPOINT_URL": url} | _SETTINGS
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    import boto3

    _forget_stores()
    try:
        yield ObjectStore(url, boto3.client("s3"))
    finally:
        server.stop()
        _forget_stores()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _forget_stores() -> None:
    """Have s3fs connect anew: it keeps connections of the process, to a store that another test has stopped."""
    if find_spec("s3fs") is not None:
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()


def reach_by(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have S3 reached by s3fs or by pyarrow, as where only that is installed, and by nobody's earlier credentials."""
    if package == "s3fs":
        pytest.importorskip("s3fs").S3FileSystem.clear_instance_cache()
    else:
        without("s3", "s3fs", monkeypatch)


def without(protocol: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have fsspec lack the package that reaches a protocol's stores, whether it is installed or not."""
    registry = import_module("fsspec.registry")  # the package has another thing of this name
    monkeypatch.delitem(registry._registry, protocol, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
