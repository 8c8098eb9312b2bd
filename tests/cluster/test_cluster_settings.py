"""What a command is told of reading and answering holds on a cluster too, where others read and answer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from command_line import refused, run
from PIL import Image

from medsharp.data.phantom.simulate import simulate_image
from medsharp.errors import InputError
from medsharp.images import ImageLimits, ValueRange
from medsharp.inference import Predictor

if TYPE_CHECKING:
    from medsharp.cluster import Cluster

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray, of its own settings

CHANGED = {
    ("--limit", "max_side=167"): ["08.png", "09.png", "10.png"],
    ("--range", "0,51000"): ["deep.png"],
    ("--precision", "fp16"): [*(f"{number:02d}.png" for number in range(11)), "deep.png"],
    ("--answer-anyway",): ["thumbnail.png"],
}
"""The images of which each setting changes what the table says."""


@pytest.fixture(scope="module")
def half_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network, in half precision too."""
    import torch

    from medsharp.bundle import TrainingRecord
    from medsharp.export import export_network
    from medsharp.networks import create_network
    from medsharp.preprocess import PreprocessSpec

    rng = np.random.default_rng(1)
    images = np.stack([simulate_image("A", ("benign", "malignant")[n % 2], rng, size=64).pixels for n in range(24)])
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("settings") / "half-model"
    export_network(
        create_network("resnet10_w16", num_classes=2, image_size=64).eval(),
        folder,
        classes=("benign", "malignant"),
        positive="malignant",
        preprocess_spec=PreprocessSpec(size=64),
        validation_images=images,
        validation_labels=np.arange(len(images)) % 2,
        precisions=("fp32", "fp16"),
        training=TrainingRecord(
            dataset="Speckle", images={"val": 24}, network="resnet10_w16", optimizer={"name": "wsam"}
        ),
    )
    assert (folder / "model.fp16.onnx").is_file()
    return folder


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of growing sides, one of sixteen bits, and one that is too small for an answer."""
    folder, rng = tmp_path_factory.mktemp("settings") / "ward", np.random.default_rng(2)
    folder.mkdir()
    pictures = {
        f"{number:02d}.png": simulate_image("A", "benign", rng, size=160 + number).pixels[: 120 + number]
        for number in range(11)
    }
    pictures["deep.png"] = simulate_image("A", "malignant", rng, size=150).pixels.astype(np.uint16) * 200
    pictures["thumbnail.png"] = pictures["03.png"][40:65, 50:80]
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(folder / name)
    (folder / "manifest.csv").write_text("image,label\n" + "".join(f"{name},\n" for name in pictures))
    return folder / "manifest.csv"


@pytest.mark.parametrize("option", CHANGED, ids=lambda option: option[0])
def test_table_under_each_setting_is_that_of_one_process(
    cluster: Cluster, half_bundle: Path, ward: Path, tmp_path: Path, option: tuple[str, ...]
) -> None:
    """And goes on with the blocks that one process made under the same setting, not with those of another."""
    command = ("predict", half_bundle, ward, "--device", "cpu")
    for name, more in (("plain", ()), ("here", option)):
        assert run(*command, "--out", tmp_path / f"{name}.csv", *more).exit_code in (0, 1)
    plain, here = (pd.read_csv(tmp_path / f"{name}.csv").set_index("image").fillna("") for name in ("plain", "here"))
    assert list(here.index[(plain != here).any(axis=1)]) == CHANGED[option]
    there = run(*command, "--out", tmp_path / "there.csv", *option, "--ray")
    assert there.exit_code in (0, 1), there.output
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()
    assert run(*command, "--out", tmp_path / "on.csv", *option, "--shard", "1/2").exit_code in (0, 1)
    refused(run(*command, "--out", tmp_path / "on.csv", "--ray"), "on.csv.parts")
    there = run(*command, "--out", tmp_path / "on.csv", *option, "--ray")
    assert there.exit_code in (0, 1), there.output
    assert (tmp_path / "on.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()


def test_actor_loads_what_one_process_loads(cluster: Cluster, half_bundle: Path) -> None:
    from medsharp.cluster import ClusterModel

    settings = {
        "precision": "fp16",
        "limits": ImageLimits(max_side=167),
        "inpaint": True,
        "value_range": ValueRange(0, 51000),
        "answer_anyway": True,
    }
    found, plain = (
        ClusterModel(half_bundle, cluster, device="cpu", **given).loading.predictor() for given in (settings, {})
    )
    for actor, alone in (
        (found, Predictor.load(half_bundle, device="cpu", **settings)),
        (plain, Predictor.load(half_bundle, device="cpu")),
    ):
        assert actor.session.precision == alone.session.precision
        assert actor.session.device == alone.session.device
        assert actor.limits == alone.limits
        assert actor.preprocessing == alone.preprocessing
        assert actor.value_range == alone.value_range
        assert actor.answer_anyway == alone.answer_anyway


def test_other_model_answers_anyway_and_the_first_stays_as_it_was(cluster: Cluster, half_bundle: Path) -> None:
    from medsharp.cluster import ClusterModel

    model = ClusterModel(half_bundle, cluster, device="cpu", limits=ImageLimits(max_side=167))
    other = model.answering_anyway()
    assert (model.loading.answer_anyway, other.loading.answer_anyway) == (False, True)
    assert other.loading.limits == model.loading.limits
    assert other.made_by("sharpest").answer_anyway
    assert other.spec is model.spec


def test_precision_that_the_bundle_lacks_is_a_sentence_as_in_one_process(
    cluster: Cluster, half_bundle: Path, ward: Path, tmp_path: Path
) -> None:
    command = ("predict", half_bundle, ward, "--out", tmp_path / "o.csv", "--device", "cpu", "--precision", "int8")
    sentence = refused(run(*command, "--ray"), "precision int8", "has fp32, fp16")
    assert sentence == refused(run(*command))
    assert not list(tmp_path.iterdir())


def test_piece_must_fit_on_one_machine() -> None:
    """Ray would wait for ever for cores that no single machine has, and refuse parts of several GPUs in mid-work."""
    from medsharp.cluster import Cluster
    from medsharp.cluster.pieces import PieceTasks

    cluster = Cluster("10.0.0.1:6379", ((8, 0.0), (8, 1.0), (4, 2.0)))
    assert (cluster.cpus, cluster.gpus) == (20, 3.0)
    assert [cluster.room(8, 0.0), cluster.room(3, 0.0), cluster.room(4, 1.0), cluster.room(1, 0.4)] == [2, 5, 2, 6]
    PieceTasks(cluster, cpus_each=8)
    for gpus, cpus, said in (
        (0.0, 9, "of 3 machines, and a piece of the work needs 9 CPUs on one machine; ask for less"),
        (2.0, 5, "needs 5 CPUs and 2 GPUs on one machine"),
        (3.0, 1, "needs 1 CPU and 3 GPUs on one machine"),
        (1.5, 1, "1.5 GPUs for a piece of the work: give whole ones, or a part of one"),
    ):
        with pytest.raises(InputError, match=re.escape(said)):
            PieceTasks(cluster, gpus_each=gpus, cpus_each=cpus)
