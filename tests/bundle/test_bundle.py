from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from medsharp.bundle import (
    FORMAT,
    BundleSpec,
    Combination,
    InputCheck,
    OperatingPoint,
    Preprocessing,
    TrainingRecord,
    default_bundle,
    digest_of,
    read_bundle,
    write_spec,
)
from medsharp.errors import InputError
from medsharp.files import sha256_file

FILES = ("model.onnx", "metadata.json", "parity.json", "MODEL_CARD.md", "internal.csv")


def make(folder: Path, **values: object) -> BundleSpec:
    """Write a bundle whose files hold anything: reading verifies them, it does not open them."""
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text(f"content of {name}\n")
    described = {
        "format": FORMAT,
        "name": folder.name,
        "created": "2026-11-24",
        "medsharp": "0.1.0",
        "classes": ("benign", "malignant"),
        "positive": "malignant",
        "preprocess": Preprocessing(size=64, crop="scan", fit="letterbox"),
        "temperature": 1.25,
        "operating_point": OperatingPoint(
            threshold=0.1 + 0.2, rule="a rule", sensitivity=0.95, specificity=0.5, images=10, positives=4
        ),
        "input_check": InputCheck(
            feature_mean=(0.5, 1e-7), feature_scale=(1.0, 3e20), distance_limit=3.0, brightness=(10.0, 200.0)
        ),
        "heatmap_reference": 0.7,
        "outputs": ("logits", "features", "cam"),
        "training": TrainingRecord(
            dataset="Größe: é", images={"train": 3}, network="resnet10_w16", optimizer={"name": "wsam", "lr": 3e-4}
        ),
        "files": {name: sha256_file(folder / name) for name in FILES},
    }
    spec = BundleSpec.model_validate({**described, **values})
    write_spec(folder, spec)
    return spec


def edit(folder: Path, **values: object) -> None:
    """Change values in bundle.yaml as a person with an editor would."""
    path = folder / "bundle.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **values}))


def test_what_was_written_is_read_back_exactly(tmp_path: Path) -> None:
    spec = make(tmp_path / "b")
    assert read_bundle(tmp_path / "b") == spec
    assert (spec.network, spec.optimizer) == ("resnet10_w16", "wsam")


def test_description_is_readable_yaml(tmp_path: Path) -> None:
    make(tmp_path / "b")
    values = yaml.safe_load((tmp_path / "b" / "bundle.yaml").read_text())
    assert values["operating_point"]["threshold"] == 0.1 + 0.2
    assert values["classes"] == ["benign", "malignant"]
    assert values["format"] == FORMAT


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("position", [0, 5, -1])
def test_one_changed_byte_is_named(tmp_path: Path, name: str, position: int) -> None:
    make(tmp_path / "b")
    content = bytearray((tmp_path / "b" / name).read_bytes())
    content[position] ^= 1
    (tmp_path / "b" / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name} was changed"):
        read_bundle(tmp_path / "b")


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named_even_without_verifying(tmp_path: Path, name: str) -> None:
    make(tmp_path / "b")
    (tmp_path / "b" / name).unlink()
    with pytest.raises(InputError, match=rf"{name} is missing"):
        read_bundle(tmp_path / "b", verify=False)


def test_file_that_export_did_not_write_is_not_taken_for_one(tmp_path: Path) -> None:
    make(tmp_path / "b", files={})
    folder = tmp_path / "b"
    with pytest.raises(InputError, match=r"lists no model\.onnx"):
        read_bundle(folder)
    make(tmp_path / "c")
    (tmp_path / "c" / "training_images.sha256").write_text("0" * 64)
    with pytest.raises(InputError, match=r"training_images\.sha256 was added"):
        read_bundle(tmp_path / "c")


@pytest.mark.parametrize("name", ["../payload.txt", "/etc/hostname", "notes/a.txt", "NOTES.txt", "bundle.yaml", ""])
def test_names_that_no_bundle_has_are_refused(tmp_path: Path, name: str) -> None:
    """Copies are made under the names that `bundle.yaml` lists."""
    (tmp_path / "payload.txt").write_text("not of the bundle")
    spec = make(tmp_path / "b")
    (tmp_path / "b" / "notes").mkdir()
    for file in ("notes/a.txt", "NOTES.txt"):
        (tmp_path / "b" / file).write_text("mine")
    listed = tmp_path / "b" / name
    files = {**spec.files, name: sha256_file(listed) if listed.is_file() else "0" * 64}
    write_spec(tmp_path / "b", spec.model_copy(update={"files": files}))
    for verify in (True, False):
        with pytest.raises(InputError, match="which is no file of a bundle"):
            read_bundle(tmp_path / "b", verify=verify)


def test_note_beside_the_bundle_does_no_harm(tmp_path: Path) -> None:
    make(tmp_path / "b")
    (tmp_path / "b" / "NOTES.txt").write_text("mine")
    read_bundle(tmp_path / "b")


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 1.3},
        {"positive": "benign"},
        {
            "operating_point": {
                "threshold": 0.5,
                "rule": "",
                "sensitivity": 1,
                "specificity": 0,
                "images": 1,
                "positives": 1,
            }
        },
        {"classes": ["malignant", "benign"]},
        {"digest": "0" * 64},
        {"digest": None},
    ],
    ids=str,
)
def test_changed_value_of_the_description_is_noticed(tmp_path: Path, change: dict[str, object]) -> None:
    make(tmp_path / "b")
    edit(tmp_path / "b", **change)
    with pytest.raises(InputError, match=r"bundle\.yaml was changed"):
        read_bundle(tmp_path / "b")


def test_no_flipped_byte_of_the_description_goes_unnoticed(tmp_path: Path) -> None:
    spec = make(tmp_path / "b")
    path = tmp_path / "b" / "bundle.yaml"
    content = path.read_bytes()
    refused = 0
    for position in range(0, len(content), 7):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        try:
            # A flip that leaves the meaning alone (one kind of space for another) may pass, nothing else.
            assert read_bundle(tmp_path / "b") == spec
        except InputError:
            refused += 1
    assert refused > len(content) / 7 * 0.9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": FORMAT + 1}, f"has format {FORMAT + 1}"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_wrong_key_or_value_is_named(tmp_path: Path, change: dict[str, object], words: str) -> None:
    make(tmp_path / "b")
    edit(tmp_path / "b", **change)
    with pytest.raises(InputError, match=words):
        read_bundle(tmp_path / "b")


def test_missing_key_is_named(tmp_path: Path) -> None:
    make(tmp_path / "b")
    path = tmp_path / "b" / "bundle.yaml"
    values = yaml.safe_load(path.read_text())
    del values["operating_point"]["threshold"]
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=r"operating_point\.threshold"):
        read_bundle(tmp_path / "b")


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "{", "a: 2026-13-45\n", "\x00", "just text"])
def test_description_that_is_none_is_one_sentence(tmp_path: Path, text: str) -> None:
    make(tmp_path / "b")
    (tmp_path / "b" / "bundle.yaml").write_text(text)
    with pytest.raises(InputError, match=r"bundle\.yaml") as caught:
        read_bundle(tmp_path / "b")
    assert "\n" not in str(caught.value)


def test_folder_that_is_no_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        read_bundle(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"is not a bundle: it has no bundle\.yaml"):
        read_bundle(tmp_path)


def test_digest_covers_the_hashes_of_the_files(tmp_path: Path) -> None:
    spec = make(tmp_path / "b")
    other = spec.model_copy(update={"files": {**spec.files, "model.onnx": "0" * 64}})
    assert digest_of(other) != digest_of(spec)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ((1, True, ()), "one network gives of the image and its mirror image"),
        ((1, False, (96, 64)), "one network gives of the image at 96 and 64 pixels"),
        ((3, True, (96, 64, 48)), "3 networks give of the image and its mirror image, each at 96, 64 and 48 pixels"),
    ],
)
def test_what_the_answer_is_the_mean_of_is_said(values: tuple[int, bool, tuple[int, ...]], sentence: str) -> None:
    members, flip, sizes = values
    combination = Combination(members=members, average="logits", flip=flip, sizes=sizes)
    assert combination.answers == {(1, True, ()): 2, (1, False, (96, 64)): 2, (3, True, (96, 64, 48)): 18}[values]
    assert combination.sentence() == f"the answer is the mean of the logits that {sentence}"


@pytest.mark.parametrize(
    ("dataset", "left_out", "expected"),
    [
        ("BUSI + BUS-BRA", None, "BUSI + BUS-BRA"),
        ("BUSI + BUS-BRA", "Baheya Hospital, Cairo", "BUSI + BUS-BRA without Baheya Hospital, Cairo"),
        ("three hospitals", "B", "three hospitals without B"),
    ],
)
def test_what_was_learned_from_is_without_the_hospital_left_out(
    tmp_path: Path, dataset: str, left_out: str | None, expected: str
) -> None:
    record = TrainingRecord(
        dataset=dataset, images={}, network="n", optimizer={}, config={"data": {"leave_site": left_out}}
    )
    assert make(tmp_path / "b", training=record).learned_from == expected


def test_default_bundle_is_the_first_in_models_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("second", "first"):
        make(tmp_path / "models" / name)
    monkeypatch.chdir(tmp_path)
    assert default_bundle().resolve() == tmp_path / "models" / "first"


def test_default_bundle_is_the_one_that_models_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("second", "first"):
        make(tmp_path / "models" / name)
    (tmp_path / "models/default").write_text("second\n")
    monkeypatch.chdir(tmp_path)
    assert default_bundle().resolve() == tmp_path / "models" / "second"
    (tmp_path / "models/default").write_text("third\n")
    with pytest.raises(InputError, match="names third, which is no bundle there"):
        default_bundle()


def test_without_a_default_bundle_the_error_says_to_give_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "medsharp.bundle.folder.__file__", str(tmp_path / "site-packages" / "medsharp" / "bundle" / "folder.py")
    )
    with pytest.raises(InputError, match="medsharp serve BUNDLE"):
        default_bundle()
