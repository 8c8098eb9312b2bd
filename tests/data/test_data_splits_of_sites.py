"""Sites are balanced or left out whole, official folds are kept, and no group is divided by either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medsharp.config import DataConfig, validate_config
from medsharp.data import Manifest, split_manifest
from medsharp.data.manifest import DatasetInfo, make_table
from medsharp.data.prepare import check_folds, prepare_manifest
from medsharp.errors import InputError


def several_sites(counts: dict[str, int], malignant: dict[str, float]) -> Manifest:
    """Patients with one or two images; the share of malignant ones differs between the sites."""
    rng = np.random.default_rng(0)
    rows = []
    for site, patients in counts.items():
        for patient in range(patients):
            label = "malignant" if rng.random() < malignant[site] else "benign"
            for view in range(1 + patient % 2):
                name = f"{site}/{patient}-{view}.png"
                rows.append({"image": name, "label": label, "patient": str(patient), "site": site, "fold5": ""})
    return Manifest(make_table(rows), DatasetInfo("hospitals", ("benign", "malignant")), Path("nowhere"))


HOSPITALS = several_sites({"A": 300, "B": 150, "C": 60}, {"A": 0.3, "B": 0.5, "C": 0.2})


def with_folds(manifest: Manifest) -> Manifest:
    table = manifest.table.copy()
    numbers = pd.factorize(table["site"] + table["patient"])[0] % 5 + 1
    table["fold5"] = numbers.astype(str)
    return manifest.replace(table=table)


@pytest.mark.parametrize("folds", [None, 5])
def test_label_and_site_are_in_every_split_in_their_shares(folds: int | None) -> None:
    split = split_manifest(HOSPITALS, folds=folds, seed=2)
    whole = split.table.groupby(["site", "label"]).size() / len(split.table)
    for part in ("train", "val", "test"):
        rows = split.of_split(part)
        share = rows.groupby(["site", "label"]).size() / len(rows)
        pd.testing.assert_series_equal(share, whole, atol=0.035, rtol=0)
    assert split.table.groupby(["site", "patient"])["split"].nunique().max() == 1


def test_left_out_site_is_the_test_set_and_no_other_is_in_it() -> None:
    split = split_manifest(HOSPITALS, leave_site="B")
    assert set(split.of_split("test")["site"]) == {"B"}
    assert len(split.of_split("test")) == (HOSPITALS.table["site"] == "B").sum()
    rest = len(split.table) - len(split.of_split("test"))
    assert len(split.of_split("val")) == pytest.approx(rest * 0.15 / 0.85, rel=0.2)
    for part in ("train", "val"):
        assert set(split.of_split(part)["site"]) == {"A", "C"}


def test_who_is_at_the_left_out_site_too_is_not_trained_on() -> None:
    table = HOSPITALS.table.copy()
    one, other = table.index[table["site"] == "A"][0], table.index[table["site"] == "B"][0]
    table.loc[[one, other], "group"] = "seen twice"
    split = split_manifest(HOSPITALS.replace(table=table), leave_site="B")
    assert split.table.at[other, "split"] == "test"
    assert split.table.at[one, "exclude"] == "its group is in the test split already"
    assert any(note.startswith("1 image left out of training or validation: ") for note in split.notes)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"leave_site": "D"}, "hospitals has no site 'D'; choose from A, B, C"),
        ({"leave_site": "D", "folds": 5}, "hospitals has no site 'D'; choose from A, B, C"),
        ({"leave_site": "unknown"}, "hospitals has no site 'unknown'; choose from A, B, C"),
        ({"official_folds": 5}, "hospitals has no 5 official folds; it has none; give folds instead"),
        ({"official_folds": 10}, "no 10 official folds"),
    ],
)
def test_what_is_not_there_is_a_sentence(options: dict[str, object], sentence: str) -> None:
    table = HOSPITALS.table.drop(columns="fold5") if options.get("official_folds") == 5 else HOSPITALS.table
    with pytest.raises(InputError, match=sentence):
        split_manifest(HOSPITALS.replace(table=table), **options)  # type: ignore[arg-type]


def test_official_folds_test_every_image_once_and_are_kept() -> None:
    manifest = with_folds(HOSPITALS)
    for fold in range(5):
        split = split_manifest(manifest, official_folds=5, fold=fold)
        assert set(split.of_split("test")["fold5"]) == {str(fold + 1)}
        assert set(split.of_split("val")["fold5"]) == {str((fold + 1) % 5 + 1)}
        assert (split.table["exclude"] == "").all()


def test_official_folds_that_divide_a_group_leave_its_training_side_out() -> None:
    manifest = with_folds(HOSPITALS)
    table = manifest.table.copy()
    sides = [table.index[table["fold5"] == str(number)][0] for number in (1, 2, 3)]
    table.loc[sides, "group"] = "near-duplicates"
    split = split_manifest(manifest.replace(table=table), official_folds=5, fold=0)
    assert split.table.loc[sides, "split"].tolist() == ["test", "", ""]
    assert split.table.loc[sides, "exclude"].tolist() == ["", *["its group is in the test split already"] * 2]


def test_fold_that_is_not_a_number_names_its_row() -> None:
    manifest = with_folds(HOSPITALS)
    table = manifest.table.copy()
    table.loc[7, "fold5"] = "6"
    with pytest.raises(InputError, match="hospitals, row 9: fold5 '6' is not one of 1 to 5"):
        split_manifest(manifest.replace(table=table), official_folds=5)


def test_another_split_than_the_manifests_own_is_refused() -> None:
    manifest = split_manifest(HOSPITALS)
    with pytest.raises(InputError, match="hospitals has a split of its own; empty its column 'split'"):
        split_manifest(manifest, folds=5)


@pytest.mark.parametrize(
    "values",
    [
        {"official_folds": 5, "leave_site": "A"},
        {"folds": 5, "official_folds": 5},
        {"official_folds": 5, "fold": 5},
        {"folds": 5, "fold": 5, "leave_site": "A"},
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"give one of|fold 5 does not exist"):
        validate_config({"data": values})


@pytest.mark.parametrize(("values", "key"), [({"fold_role": "val"}, "fold_role"), ({"folds": 2}, "folds")])
def test_folds_that_leave_none_to_train_on_are_refused_before_anything_is_read(
    values: dict[str, object], key: str
) -> None:
    with pytest.raises(InputError, match=rf"data\.{key} = "):
        prepare_manifest(DataConfig(path="nowhere", **values))  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"leave_site": "A"}, {"fold_role": "val", "fold": 1}])
def test_two_folds_are_enough_where_one_of_them_validates_alone(options: dict[str, Any]) -> None:
    check_folds(DataConfig(folds=2, **options))
    split = split_manifest(HOSPITALS, folds=2, **options)
    assert len(split.of_split("train")) == pytest.approx(len(split.of_split("val")), rel=0.15)


@pytest.mark.parametrize("site", ["B", "b", " b "])
def test_other_sites_are_dealt_into_folds_of_which_each_validates_once(site: str) -> None:
    validated: list[str] = []
    for fold in range(4):
        split = split_manifest(HOSPITALS, leave_site=site, folds=4, fold=fold)
        assert set(split.of_split("test")["site"]) == {"B"}
        assert len(split.of_split("test")) == (HOSPITALS.table["site"] == "B").sum()
        val, train = split.of_split("val"), split.of_split("train")
        assert set(val["site"]) == set(train["site"]) == {"A", "C"}
        assert len(val) == pytest.approx((HOSPITALS.table["site"] != "B").sum() / 4, rel=0.1)
        assert len(val) + len(train) == (HOSPITALS.table["site"] != "B").sum()
        validated += val["image"].tolist()
    assert sorted(validated) == sorted(HOSPITALS.table["image"][HOSPITALS.table["site"] != "B"])


def test_fold_that_validates_leaves_all_others_to_train_and_none_to_test() -> None:
    validated: list[str] = []
    for fold in range(5):
        split = split_manifest(HOSPITALS, folds=5, fold=fold, fold_role="val")
        assert not len(split.of_split("test"))
        assert len(split.of_split("train")) + len(split.of_split("val")) == len(HOSPITALS.table)
        assert not any("test" in note for note in split.notes)
        validated += split.of_split("val")["image"].tolist()
    assert sorted(validated) == sorted(HOSPITALS.table["image"])
    both = split_manifest(HOSPITALS, folds=5, fold=3)  # the same folds, whatever their role
    assert both.of_split("test")["image"].tolist() == (
        split_manifest(HOSPITALS, folds=5, fold=3, fold_role="val").of_split("val")["image"].tolist()
    )


def test_official_fold_may_validate_too() -> None:
    split = split_manifest(with_folds(HOSPITALS), official_folds=5, fold=2, fold_role="val")
    assert set(split.of_split("val")["fold5"]) == {"3"}
    assert set(split.of_split("train")["fold5"]) == {"1", "2", "4", "5"}


def test_left_out_site_of_one_class_is_a_sentence() -> None:
    table = HOSPITALS.table.copy()
    table.loc[table["site"] == "C", "label"] = "benign"
    with pytest.raises(InputError, match="hospitals: the left-out site 'C' has images of class benign only"):
        split_manifest(HOSPITALS.replace(table=table), leave_site="C")


def test_split_of_its_own_without_a_test_set_is_kept() -> None:
    split = split_manifest(split_manifest(HOSPITALS, folds=5, fold_role="val"))
    assert not len(split.of_split("test"))


@pytest.mark.parametrize("folds", [5, 10])
def test_busbra_is_split_by_its_authors_folds(real_data: Path, folds: int) -> None:
    manifest = prepare_manifest(DataConfig(path=str(real_data / "BUSBRA"), official_folds=folds, fold=1))
    assert set(manifest.of_split("test")[f"fold{folds}"]) == {"2"}
    assert len(manifest.of_split("test")) == pytest.approx(1875 / folds, rel=0.1)
    assert manifest.included.groupby("patient")["split"].nunique().max() == 1
