"""timm's published weights: from the Hugging Face hub or a plain address, or from the cache of either."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import torch
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError

from medsharp.files import sha256_file
from medsharp.weights_origin import WeightsOrigin

PATIENCE = 4.0
"""Seconds within which a server must answer whether it has a file; the download has the hub's own limits."""

_FILES = ("model.safetensors", "pytorch_model.bin")
"""What timm looks for in a repository that names no file, in its order."""

Answer = TypeVar("Answer")


class UnavailableError(Exception):
    """Published weights cannot be had from somewhere; the message says why, as the end of a sentence."""


class Published(NamedTuple):
    """Weights that were found, and how they are got: `fetch` returns the local file, downloading it if need be.

    It raises an `UnavailableError` where the download fails.
    """

    origin: WeightsOrigin
    fetch: Callable[[], Path]


def find_published(config: Any) -> Published:
    """Find the weights that timm's configuration of a network names; nothing is downloaded yet.

    What is in the cache is not asked for again. `HF_HUB_OFFLINE` and the hub's other variables hold.

    Args:
        config: timm's `PretrainedCfg`.

    Raises:
        UnavailableError: timm names none, or its server does not answer within `PATIENCE`, or it has no such file.
    """
    if config.hf_hub_id:
        return _on_hub(config)
    if config.url:
        return _at_address(config)
    raise UnavailableError("timm has published none")


def _on_hub(config: Any) -> Published:
    repository, _, revision = config.hf_hub_id.partition("@")
    names = (config.hf_hub_filename,) if config.hf_hub_filename else _FILES
    about = {"kind": "hub", "name": repository, "licence": config.license or ""}
    for name in names:
        cached = try_to_load_from_cache(repository, name, revision=revision or None)
        if isinstance(cached, str):
            path = Path(cached)
            # The cache keeps a snapshot in a folder named by its commit.
            commit = path.parents[name.count("/")].name
            origin = _origin(about, name, commit, sha256_file(path))
            return Published(origin, partial(Path, path))
    if constants.HF_HUB_OFFLINE:
        raise UnavailableError("HF_HUB_OFFLINE is set and they are not in the cache")
    for name in names:
        address = hf_hub_url(repository, name, revision=revision or None)
        try:
            found = _within(PATIENCE, partial(get_hf_file_metadata, address, timeout=PATIENCE))
        except EntryNotFoundError:
            continue
        # Which error says that there is no network, or no such repository, depends on the hub's HTTP library.
        except Exception as error:
            raise UnavailableError(f"the hub does not give them ({_short(error)})") from error
        commit = found.commit_hash or ""
        # Large files are tagged by their SHA-256, small ones by git's hash.
        digest = found.etag if re.fullmatch("[0-9a-f]{64}", found.etag or "") else ""
        # By its branch, not its commit: the cache finds it again by the branch alone.
        fetch = partial(_download, repository, name, revision or None)
        return Published(_origin(about, name, commit, digest or ""), fetch)
    raise UnavailableError(f"the hub's {repository} has no {' or '.join(names)}")


def _download(repository: str, name: str, revision: str | None) -> Path:
    try:
        return Path(hf_hub_download(repository, name, revision=revision, etag_timeout=PATIENCE))
    # Errors of the hub's HTTP library, as above, and of the disk.
    except Exception as error:
        raise _broken_off(error) from error


def _origin(about: dict[str, str], name: str, commit: str, digest: str) -> WeightsOrigin:
    repository = about["name"]
    url = f"https://huggingface.co/{repository}/blob/{commit or 'main'}/{name}"
    return WeightsOrigin.model_validate({**about, "version": commit, "file": name, "sha256": digest, "url": url})


def _at_address(config: Any) -> Published:
    name = Path(urlparse(config.url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    about = WeightsOrigin(kind="url", name=name, file=name, licence=config.license or "", url=config.url)
    if path.is_file():
        return Published(about.model_copy(update={"sha256": sha256_file(path)}), lambda: path)
    host = urlparse(config.url).netloc
    if constants.HF_HUB_OFFLINE:
        raise UnavailableError(f"HF_HUB_OFFLINE is set and {name} of {host} is not in the cache")
    try:
        _within(PATIENCE, lambda: urlopen(Request(config.url, method="HEAD"), timeout=PATIENCE).close())
    except (OSError, HTTPException) as error:
        raise UnavailableError(f"{host} does not give them ({_short(error)})") from error

    def fetch() -> Path:
        # Publishers write the hash's beginning into the name.
        prefix = re.search(r"-([a-f0-9]{8,})\.", name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(config.url, str(path), prefix and prefix.group(1))
        except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: of another hash
            raise _broken_off(error) from error
        return path

    return Published(about, fetch)


def _within(seconds: float, ask: Callable[[], Answer]) -> Answer:
    """Return what `ask` does, or give it up: looking a host's name up heeds no timeout of the request."""
    answer: Future[Answer] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        # Whatever it is, it is raised where the answer is waited for.
        except Exception as error:
            answer.set_exception(error)

    # Not an executor's thread, which the interpreter would wait for at its end.
    threading.Thread(target=run, daemon=True).start()
    try:
        return answer.result(timeout=seconds)
    except TimeoutError:
        raise TimeoutError(f"no answer within {seconds:g} seconds") from None


def _broken_off(error: Exception) -> UnavailableError:
    return UnavailableError(f"the download failed: {_short(error)}")


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:160].rstrip(". ")
