"""Splits are balanced within their stated tolerances, differ by seed, and say what they cannot meet."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medsharp.data import Manifest, split_manifest
from medsharp.data.dealing import GROUPS, IMAGES, LABELS, deal
from medsharp.data.manifest import DatasetInfo, make_table
from medsharp.data.split import FEW
from medsharp.errors import InputError

SEEDS = range(12)
SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def manifest_of(patients: list[list[str]], site: str = "") -> Manifest:
    """A patient an entry, with the labels of its images."""
    rows = [
        {"image": f"{patient}/{number}.png", "label": label, "patient": f"p{patient}", "site": site}
        for patient, labels in enumerate(patients)
        for number, label in enumerate(labels)
    ]
    return Manifest(make_table(rows), DatasetInfo("clinic", ("benign", "malignant")), Path("nowhere"))


def few_large_patients() -> Manifest:
    """38 patients, some with dozens of images, nearly all with images of both classes."""
    rng = np.random.default_rng(1)
    sizes = np.clip(6 * rng.pareto(1.0, 38) + 2, 2, 80).astype(int)
    shares = rng.beta(0.5, 0.8, 38)
    return manifest_of(
        [["malignant" if rng.random() < share else "benign" for _ in range(size)] for size, share in zip(sizes, shares)]
    )


def large_patients_are_malignant() -> Manifest:
    """60 patients, 40 % malignant; the malignant ones have many images, up to 40."""
    rng = np.random.default_rng(2)
    return manifest_of(
        [
            ["malignant"] * int(rng.integers(5, 40)) if number < 24 else ["benign"] * int(rng.integers(1, 6))
            for number in range(60)
        ]
    )


def an_image_each() -> Manifest:
    return manifest_of([["malignant"] if number % 3 == 0 else ["benign"] for number in range(300)])


MANIFESTS = {make.__name__: make() for make in (few_large_patients, large_patients_are_malignant, an_image_each)}


def shares_of(manifest: Manifest, part: str) -> tuple[float, float, float]:
    """The shares of images and patients, and of malignant ones among the images of a part."""
    rows, every = manifest.of_split(part), manifest.included
    return (
        len(rows) / len(every),
        rows["patient"].nunique() / every["patient"].nunique(),
        float((rows["label"] == "malignant").mean()),
    )


@pytest.mark.parametrize("name", MANIFESTS)
@pytest.mark.parametrize("seed", SEEDS)
def test_images_patients_and_labels_are_within_the_tolerances(name: str, seed: int) -> None:
    split = split_manifest(MANIFESTS[name], seed=seed)
    assert split.included.groupby("patient")["split"].nunique().max() == 1
    whole = (split.included["label"] == "malignant").mean()
    for part, asked in SHARES.items():
        images, patients, malignant = shares_of(split, part)
        assert images == pytest.approx(asked, abs=IMAGES * asked)
        assert patients == pytest.approx(asked, abs=GROUPS * asked + 1e-9)
        assert malignant == pytest.approx(whole, abs=LABELS)
    assert not any("instead of" in note for note in split.notes)


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_seed_gives_another_split_and_large_patients_are_tested_too(name: str) -> None:
    manifest = MANIFESTS[name]
    tested = [frozenset(split_manifest(manifest, seed=seed).of_split("test")["patient"]) for seed in SEEDS]
    assert len(set(tested)) == len(tested)
    assert len(frozenset.union(*tested)) > 0.5 * manifest.table["patient"].nunique()
    assert not frozenset.intersection(*tested)


def test_same_seed_gives_the_same_split_whatever_the_order_of_rows() -> None:
    manifest = MANIFESTS["few_large_patients"]
    split = split_manifest(manifest, seed=3).table.set_index("image")["split"]
    for order in range(3):
        shuffled = manifest.table.sample(frac=1, random_state=order)
        again = split_manifest(manifest.replace(table=shuffled), seed=3).table.set_index("image")["split"]
        pd.testing.assert_series_equal(again.sort_index(), split.sort_index())


@pytest.mark.parametrize("seed", SEEDS)
def test_folds_are_balanced_and_test_every_patient_once(seed: int) -> None:
    manifest = MANIFESTS["large_patients_are_malignant"]
    tested: list[str] = []
    for fold in range(4):
        split = split_manifest(manifest, folds=4, fold=fold, seed=seed)
        images, patients, malignant = shares_of(split, "test")
        assert images == pytest.approx(0.25, abs=0.05)
        assert patients == pytest.approx(0.25, abs=0.25 / 3)
        assert malignant == pytest.approx((manifest.table["label"] == "malignant").mean(), abs=LABELS)
        tested += sorted(set(split.of_split("test")["patient"]))
    assert sorted(tested) == sorted(set(manifest.table["patient"]))


@pytest.mark.parametrize("seed", SEEDS)
def test_validation_beside_a_left_out_site_is_balanced(seed: int) -> None:
    here, there = MANIFESTS["few_large_patients"], manifest_of([["benign", "malignant"]] * 20, "Other")
    table = pd.concat([here.table.assign(site="Here"), there.table.assign(image="o/" + there.table["image"])])
    split = split_manifest(here.replace(table=table), leave_site="Other", seed=seed)
    assert set(split.of_split("test")["site"]) == {"Other"}
    rest = split.included[split.included["split"] != "test"]
    rows = split.of_split("val")
    assert len(rows) / len(rest) == pytest.approx(0.15 / 0.85, rel=IMAGES)
    assert (rows["label"] == "malignant").mean() == pytest.approx((rest["label"] == "malignant").mean(), abs=LABELS)


def test_images_without_a_site_are_on_no_side_of_a_left_out_site() -> None:
    manifest = MANIFESTS["an_image_each"]
    table = manifest.table.copy()
    table["site"] = ["North", "North", "South", ""] * 75
    table.loc[3, "site"] = "SOUTH"  # the same site, in a table that was made otherwise than by reading a file
    split = split_manifest(manifest.replace(table=table), leave_site="South")
    assert split.table.at[3, "split"] == "test"
    assert set(split.table.loc[table["site"] == "", "exclude"]) == {"its site is not known, and South is left out"}
    assert "74 images left out: their site is not known, and may be South" in split.notes


def test_what_one_huge_patient_makes_impossible_is_said() -> None:
    huge = manifest_of(
        [["benign", "malignant"] * 60, *[["malignant"] if n % 3 == 0 else ["benign"] for n in range(60)]]
    )
    split = split_manifest(huge)
    assert set(split.of_split("train")["patient"]) >= {"p0"}
    (sentence,) = [note for note in split.notes if note.startswith("test has ")]
    assert "% of the images instead of 15%" in sentence
    assert sentence.endswith("its patients or groups are too few or too large to be dealt otherwise")


@pytest.mark.parametrize("seed", SEEDS)
def test_three_patients_of_a_class_are_one_in_each_part(seed: int) -> None:
    rare = manifest_of([["malignant"] if number < 3 else ["benign"] for number in range(50)])
    split = split_manifest(rare, seed=seed)
    for part in SHARES:
        assert (split.of_split(part)["label"] == "malignant").sum() == 1
        assert any(re.match(rf"WARNING: {part} has only .*1 of class malignant", note) for note in split.notes)


def test_few_patients_of_a_class_in_a_part_are_warned_of_and_enough_are_not() -> None:
    def warned(count: int) -> list[str]:
        split = split_manifest(manifest_of([["benign"], ["malignant"]] * count))
        return [note for note in split.notes if "WARN" in note]

    assert warned(100) == []
    (val, test) = warned(50)
    assert val.startswith("WARNING: val has only ")
    assert test.startswith("WARNING: test has only ")
    assert f"below {FEW} its figures mean little" in test


def test_two_patients_of_a_class_are_too_few_and_enough_beside_a_left_out_site() -> None:
    two = manifest_of([["benign"]] * 9 + [["malignant"]] * 2, "Here")
    with pytest.raises(InputError, match="class malignant has only 2 patients or image groups, too few for 3 splits"):
        split_manifest(two)
    other = manifest_of([["benign", "malignant"]] * 3, "Other")
    table = pd.concat([two.table, other.table.assign(image="o/" + other.table["image"])])
    split = split_manifest(two.replace(table=table), leave_site="Other")
    for part in ("train", "val"):
        assert (split.of_split(part)["label"] == "malignant").sum() == 1


def test_group_that_is_given_joins_its_patients_and_may_span_classes() -> None:
    manifest = MANIFESTS["an_image_each"]
    table = manifest.table.copy()
    table.loc[[0, 1, 2, 7], "group"] = ["twins", "Twins ", "twins", "TWINS"]
    table.loc[[7, 8], "patient"] = "p7"
    for seed in SEEDS:
        split = split_manifest(manifest.replace(table=table), seed=seed)
        assert split.table.loc[[0, 1, 2, 7, 8], "split"].nunique() == 1


def test_lesions_frames_and_copies_of_one_file_stay_together() -> None:
    manifest = MANIFESTS["an_image_each"]
    table = manifest.table.assign(patient="")
    table.loc[[0, 5, 9], "image"] = "clip.dcm"
    table.loc[[0, 5, 9], "frame"] = ["1", "20", "30"]
    table.loc[[11, 12], "sha256"] = hashlib.sha256(b"").hexdigest()
    for seed in SEEDS:
        split = split_manifest(manifest.replace(table=table), seed=seed)
        assert split.table.loc[[0, 5, 9], "split"].nunique() == 1
        assert split.table.loc[[11, 12], "split"].nunique() == 1


@pytest.mark.parametrize(
    ("column", "values"),
    [("patient", ("P1", "p1 ")), ("patient", ("7", "7.0")), ("patient", ("7", "007")), ("group", ("g", "G"))],
)
def test_split_of_the_manifest_is_checked_on_keys_not_on_spellings(column: str, values: tuple[str, str]) -> None:
    split = split_manifest(MANIFESTS["an_image_each"])
    table = split.table.copy()
    sides = [int(table.index[table["split"] == part][0]) for part in ("train", "test")]
    table.loc[sides, column] = list(values)
    with pytest.raises(InputError, match=f"same {column} is on two sides"):
        split_manifest(split.replace(table=table))


def test_number_at_no_site_and_at_one_is_one_patient_and_at_two_sites_two() -> None:
    manifest = manifest_of([["benign", "benign"], ["malignant", "malignant"]] * 40)
    table = manifest.table.copy()
    table["site"] = ["A", ""] * 80
    for seed in SEEDS:
        split = split_manifest(manifest.replace(table=table), seed=seed)
        assert split.table.groupby("patient")["split"].nunique().max() == 1
    table["site"] = ["A", "B"] * 80
    parts = [split_manifest(manifest.replace(table=table), seed=s).table.groupby("patient")["split"] for s in SEEDS]
    assert max(part.nunique().max() for part in parts) > 1


def test_part_of_a_split_that_is_given_is_said_to_be_unused() -> None:
    table = MANIFESTS["an_image_each"].table.copy()
    table.loc[:9, "split"] = "test"
    split = split_manifest(MANIFESTS["an_image_each"].replace(table=table))
    assert "the split that the manifest gives for 10 of 300 images is not used" in split.notes


def test_rows_without_a_label_are_a_sentence() -> None:
    table = MANIFESTS["an_image_each"].table.copy()
    table.loc[:1, "label"] = ""
    with pytest.raises(InputError, match="clinic: 2 images have no label; label or exclude them"):
        split_manifest(MANIFESTS["an_image_each"].replace(table=table))


def test_dealing_a_hundred_thousand_groups_meets_the_shares_closely() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 6, 100_000)
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.repeat(rng.choice(["benign", "malignant"], len(sizes), p=[0.7, 0.3]), sizes)
    sites = np.repeat(rng.choice(["A", "B", "C"], len(sizes), p=[0.6, 0.3, 0.1]), sizes)
    parts = deal(clusters, labels, sites, (0.7, 0.15, 0.15), seed=0)
    np.testing.assert_allclose(np.bincount(parts) / len(parts), (0.7, 0.15, 0.15), rtol=0.005)
    whole = pd.Series(labels + sites).value_counts(normalize=True)
    for part in range(3):
        share = pd.Series((labels + sites)[parts == part]).value_counts(normalize=True)
        pd.testing.assert_series_equal(share.sort_index(), whole.sort_index(), rtol=0.02)
