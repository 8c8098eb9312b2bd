"""An evaluation by Ray is that of one process: the same table, figures and pictures, each image read once."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from command_line import refused, run
from killing import killed
from object_store import ObjectStore
from PIL import Image

from medsharp.bundle import default_bundle
from medsharp.inference.predictor import BATCH

if TYPE_CHECKING:
    from medsharp.cluster import Cluster

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray, of its own settings

QUICK = ("--resamples", "100", "--device", "cpu")


@pytest.fixture(scope="module")
def hospital(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with patients, two copies, one under the other label, and images that are refused or cautioned."""
    folder = tmp_path_factory.mktemp("evaluated") / "north"
    shutil.copytree(manifest.parent, folder)
    table = pd.read_csv(folder / "manifest.csv", keep_default_na=False)
    table["patient"] = [f"P{number // 2}" for number in range(len(table))]
    noise = np.random.default_rng(1).integers(0, 256, size=(131, 150), dtype=np.uint8)
    dark = np.asarray(Image.open(folder / "scans/08.png")) // 6
    thumbnail = np.asarray(Image.open(folder / "scans/10.png"))[40:65, 50:80]
    for name, pixels in (("noise", noise), ("thumbnail", thumbnail), ("dark", dark)):
        Image.fromarray(pixels).save(folder / f"scans/{name}.png")
    for name, other in (("copy", 4), ("contradiction", 12)):
        shutil.copy(folder / f"scans/{other:02d}.png", folder / f"scans/{name}.png")
    more = {
        "copy": "benign",
        "contradiction": "malignant",
        "noise": "malignant",
        "thumbnail": "benign",
        "dark": "benign",
    }
    for name, label in more.items():
        table.loc[len(table)] = {"image": f"scans/{name}.png", "label": label, "patient": name} | dict.fromkeys(
            ("mask", "exclude", "ward", "flags"), ""
        )
    table.to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def figures(out: Path) -> Any:
    """Return what the evaluation says, but for when it was made."""
    found = json.loads((out / "evaluation.json").read_text())
    return {key: value for key, value in found.items() if key not in ("created", "time")}


@pytest.mark.parametrize("more", [(), ("--answer-anyway", "--inpaint")], ids=["refusals", "answers-anyway"])
def test_evaluation_is_that_of_one_process(
    cluster: Cluster, hospital: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    """Also where checks refuse images, whose numbers the figures need, whatever the table shows."""
    monkeypatch.setattr("medsharp.inference.table.BLOCK", BATCH)  # the digits of this network follow the batch
    command = ("evaluate", default_bundle(), "--data", hospital, *QUICK, "--by", "ward", "--thumbnails", *more)
    here = run(*command, "--out", tmp_path / "here")
    assert here.exit_code == 0, here.output
    there = run(*command, "--out", tmp_path / "there", "--ray")
    assert there.exit_code == 0, there.output
    assert "runs on Ray on this machine: 2 CPUs, on cpu in fp32" in there.output
    assert figures(tmp_path / "there") == figures(tmp_path / "here")
    (name,) = (path.name for path in (tmp_path / "here").glob("predictions-*.csv"))
    assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == sorted(
        path.name for path in (tmp_path / "here").iterdir()
    )
    rows = pd.read_csv(tmp_path / "there" / name)
    assert {"scans/copy.png", "scans/contradiction.png", "scans/12.png", "scans/09.png"}.isdisjoint(rows["image"])
    assert "scans/04.png" in set(rows["image"])
    row = rows.set_index("image")
    assert row["checks"]["scans/noise.png"] == "refusal:not_ultrasound; caution:distance"
    assert row["checks"]["scans/thumbnail.png"] == "refusal:too_small"
    assert row["checks"]["scans/dark.png"] == "caution:dark"
    assert row["p_malignant"][["scans/noise.png", "scans/thumbnail.png"]].notna().tolist() == [bool(more)] * 2
    inpainted = row["flags"].fillna("").astype(str).str.contains("inpainted")
    assert inpainted.sum() == (rows["error"].isna().sum() if more else 0)
    for left_out in ("2 of 46 images left out: contradictory", "1 of 46 images left out: exact duplicate"):
        assert left_out in there.output


def test_hospitals_in_a_store_have_the_figures_of_those_on_a_disk(
    cluster: Cluster, store: ObjectStore, speckle_bundle: Path, hospital: Path, tmp_path: Path
) -> None:
    """With pictures, which are read again at the end, and a second hospital, whose images are looked at again."""
    store.put_folder(hospital.parent, "evaluated", "north")
    other = tmp_path / "south"
    for folder in ("scans", "masks"):
        shutil.copytree(hospital.parent / folder, other / folder)
    for number, path in enumerate(sorted((other / "scans").glob("[0-9]*.png"))):
        if path.name != "09.png":
            turned = np.asarray(Image.open(path)).T[:: -1 if number % 2 else 1, 7:]
            Image.fromarray(np.ascontiguousarray(turned)).save(path)
    rows = [f"scans/{number:02d}.png,{('benign', 'malignant')[number % 2]}" for number in range(20)]
    (other / "manifest.csv").write_text("\n".join(["image,label", *rows]) + "\n")
    store.put_folder(other, "evaluated", "south")
    command = ("evaluate", speckle_bundle, *QUICK, "--by", "ward", "--thumbnails")
    places = {
        "here": ((hospital, other / "manifest.csv"), ()),
        "store": (("s3://evaluated/north/manifest.csv", "s3://evaluated/south/manifest.csv"), ()),
        "ray": (("s3://evaluated/north/manifest.csv", "s3://evaluated/south/manifest.csv"), ("--ray",)),
    }
    for name, (data, more) in places.items():
        result = run(*command, *(word for path in data for word in ("--data", path)), *more, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
        assert "/tmp/medsharp-" not in result.output
    tables = [path.name for path in (tmp_path / "here").glob("predictions-*.csv")]
    assert sorted(tables) == ["predictions-north.csv", "predictions-south.csv"]
    for name in ("store", "ray"):
        assert figures(tmp_path / name) == figures(tmp_path / "here")
        for table in tables:
            assert (tmp_path / name / table).read_bytes() == (tmp_path / "here" / table).read_bytes()
        assert (tmp_path / name / "report.html").read_text().count("data:image/jpeg") > 5
    assert not list(Path(tempfile.gettempdir()).glob("medsharp-*/scans"))
    # An image of one hospital that lies at the other too.
    store.put({"south/scans/03.png": (hospital.parent / "scans/03.png").read_bytes()}, "evaluated")
    for name in ("store", "ray"):
        data, more = places[name]
        result = run(*command, *(word for path in data for word in ("--data", path)), *more, "--out", tmp_path / "none")
        refused(result, "the same file is in two data sets: north, row 5 (scans/03.png) and south, row 5")
    assert not (tmp_path / "none").exists()


def test_whoever_is_killed_meanwhile_the_table_is_the_same(
    cluster: Cluster, speckle_bundle: Path, hospital: Path, tmp_path: Path
) -> None:
    command = ("evaluate", speckle_bundle, "--data", hospital, *QUICK)
    assert run(*command, "--out", tmp_path / "here").exit_code == 0
    with killed("FlatMap(look_at_piece)") as task, killed("MapWorker(Map(Answering)).submit") as actor:
        result = run(*command, "--out", tmp_path / "there", "--ray")
    assert (task(), actor()) == (1, 1)
    assert result.exit_code == 0, result.output
    assert figures(tmp_path / "there") == figures(tmp_path / "here")


@pytest.fixture(scope="module")
def crop_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that looks at the lesion only."""
    import numpy as np
    import torch

    from medsharp.bundle import TrainingRecord
    from medsharp.export import export_network
    from medsharp.networks import create_network
    from medsharp.preprocess import PreprocessSpec

    torch.manual_seed(0)
    images = np.random.default_rng(1).integers(0, 255, size=(24, 32, 32), dtype=np.uint8)
    folder = tmp_path_factory.mktemp("cropping") / "lesion-model"
    export_network(
        create_network("resnet10_w16", num_classes=2, image_size=32).eval(),
        folder,
        classes=("benign", "malignant"),
        positive="malignant",
        preprocess_spec=PreprocessSpec(size=32, crop="lesion"),
        validation_images=images,
        validation_labels=np.arange(len(images)) % 2,
        training=TrainingRecord(
            dataset="Speckle", images={"val": 24}, network="resnet10_w16", optimizer={"name": "wsam"}
        ),
    )
    return folder


def test_images_whose_lesion_is_not_known_are_told_as_in_one_process(
    cluster: Cluster, crop_bundle: Path, hospital: Path, tmp_path: Path
) -> None:
    command = ("evaluate", crop_bundle, "--data", hospital, *QUICK)
    for name, more in (("here", ()), ("there", ("--ray",))):
        result = run(*command, "--out", tmp_path / name, *more)
        assert result.exit_code == 0, result.output
    (name,) = (path.name for path in (tmp_path / "here").glob("predictions-*.csv"))
    assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    rows = pd.read_csv(tmp_path / "there" / name)
    assert (rows["status"] == "failed").sum() > 30
    assert rows["p_malignant"].notna().sum() == 4


def test_what_is_wrong_is_a_sentence_as_in_one_process(
    cluster: Cluster, speckle_bundle: Path, hospital: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "changed", tmp_path / "out"
    shutil.copytree(hospital.parent, folder)
    table = pd.read_csv(folder / "manifest.csv", keep_default_na=False)
    table["sha256"] = ["0" * 64 if number == 3 else "" for number in range(len(table))]
    table.to_csv(folder / "manifest.csv", index=False)
    command = ("evaluate", speckle_bundle, "--data", folder / "manifest.csv", "--out", out, *QUICK)
    changed = refused(run(*command, "--ray"), "row 5", "scans/03.png is another file")
    assert changed == refused(run(*command))
    refused(run(*command, "--ray", "127.0.0.1:1"), "--ray 127.0.0.1:1: nothing answers there")
    refused(run(*command, "--gpus-each", "1"), "--gpus-each is of a cluster; give --ray too")
    table.assign(sha256="", exclude="Doppler").to_csv(folder / "manifest.csv", index=False)
    empty = refused(run(*command, "--ray"), "no image can be used; it lists no image that is not excluded")
    assert empty == refused(run(*command))
    assert not out.exists()
