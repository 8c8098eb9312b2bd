"""A Ray of two cores for all tests here, a hospital that is read on it, and what one process makes of that."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from command_line import run
from killing import IMAGES
from object_store import ObjectStore, object_store
from PIL import Image

from medsharp.data.phantom.simulate import simulate_image

if TYPE_CHECKING:
    from medsharp.cluster import Cluster


@pytest.fixture(scope="package")
def environment() -> Iterator[ObjectStore | None]:
    """What Ray's processes find in the environment: a store, where moto is installed."""
    if find_spec("moto") is None:
        yield None
        return
    with object_store() as found:
        yield found


@pytest.fixture(scope="package")
def store(environment: ObjectStore | None) -> ObjectStore:
    """A store as Amazon's S3 is one."""
    if environment is None:
        pytest.skip("moto is not installed")
    return environment


@pytest.fixture(scope="package")
def cluster(environment: ObjectStore | None) -> Iterator[Cluster]:
    """A Ray of two cores; what is asked of `local` meanwhile is asked of it."""
    pytest.importorskip("ray")
    from medsharp.cluster import joined

    with joined(cpus=2) as cluster:
        yield cluster


@pytest.fixture(scope="package")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of unequal sizes, one that is damaged, one excluded, masks of a few, and a column of the hospital's."""
    folder, rng = tmp_path_factory.mktemp("data") / "hospital", np.random.default_rng(0)
    (folder / "scans").mkdir(parents=True)
    rows = ["image,label,mask,exclude,ward,flags"]
    for number in range(IMAGES):
        label, name = ("benign", "malignant")[number % 2], f"scans/{number:02d}.png"
        pixels = simulate_image("A", label, rng, size=160 + number).pixels[: 120 + number]
        Image.fromarray(pixels).save(folder / name)
        mask = ""
        if number in (1, 2, 17, 40):
            area = np.zeros(pixels.shape, dtype=np.uint8)
            area[10 : 40 + number, 5:85] = 255
            mask = f"masks/{number}.png"
            (folder / "masks").mkdir(exist_ok=True)
            Image.fromarray(area).save(folder / mask)
        rows.append(f'{name},{label},{mask},{"Doppler" * (number == 6)},"Ward {number % 3}, ""west""",')
    (folder / "scans/09.png").write_bytes((folder / "scans/09.png").read_bytes()[:300])
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder / "manifest.csv"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medsharp.inference.table.BLOCK", 4)


@pytest.fixture
def whole(speckle_bundle: Path, manifest: Path, tmp_path: Path) -> bytes:
    """The table that one process writes."""
    out = tmp_path / "whole.csv"
    assert run("predict", speckle_bundle, manifest, "--out", out, "--device", "cpu").exit_code == 1
    table = out.read_bytes()
    out.unlink()
    return table
