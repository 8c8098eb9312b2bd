"""Which columns are readers' judgements, and how their cells are read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medsharp.birads import category
from medsharp.evaluation.readers.columns import Reader, readers_in


def only(column: str, cells: list[str]) -> Reader:
    readers, notes = readers_in(pd.DataFrame({column: cells}))
    assert notes == []
    assert len(readers) == 1
    return readers[0]


@pytest.mark.parametrize(
    ("cell", "meant"),
    [
        ("4a", "4a"), ("BI-RADS 4B", "4b"), ("IVc", "4c"), ("ACR 3", "3"), ("5.0", "5"), ("category 2", "2"),
        ("0", "0"), ("6", "6"), ("4d", None), ("7", None), ("2-3", None), ("benign", None), ("3a", None), ("", None),
        ("-1", None),
    ],
)  # fmt: skip
def test_categories_are_understood_as_people_write_them(cell: str, meant: str | None) -> None:
    assert category(cell) == meant


def test_every_category_has_its_place_and_what_is_no_judgement_is_counted() -> None:
    reader = only("BI-RADS", ["5", "4C", "4b", "4A", "3", "2", "1", "0", "6", "6", "unclear", "?", "?", ""])
    assert reader.scale == "birads"
    assert (np.diff(reader.ratings[:7]) < 0).all(), "5 is the most suspicious, then 4C, 4B, 4A, 3, 2, 1"
    assert not reader.read[7:].any()
    assert reader.left_out == {
        "no BI-RADS category: '?', 'unclear'": 3,
        "category 6, known by biopsy": 2,
        "category 0, incomplete": 1,
        "not read": 1,
    }
    assert list(reader.steps) == ["1", "2", "3", "4A", "4B", "4C", "5"]
    assert list(reader.cutoffs) == ["3", "4A", "4B", "4C", "5"]


def test_plain_fours_are_a_step_of_their_own_where_no_letters_are() -> None:
    reader = only("birads", ["2", "3", "4", "5"])
    assert list(reader.cutoffs) == ["3", "4", "5"]
    assert reader.notes == ()


def test_plain_fours_among_letters_rank_in_the_middle_and_are_told() -> None:
    reader = only("birads", ["4a", "4", "4c", "4b", "2"])
    assert reader.ratings[0] < reader.ratings[1] == reader.ratings[3] < reader.ratings[2]
    assert "1 image has category 4 without a letter" in reader.notes[0]
    assert list(reader.steps) == ["2", "4A", "4B", "4C"]


def test_the_first_step_is_no_cut_point() -> None:
    assert list(only("birads", ["3", "4", "5"]).cutoffs) == ["4", "5"], "everyone is at least 3"


def test_readers_are_found_by_their_names_and_numbers_are_their_own_scale() -> None:
    table = pd.DataFrame(
        {
            "birads_reader2": ["2", "5"],
            "Reader 1": ["10", "90.5"],
            "rater_B": ["4A", "3"],
            "rating-x": ["1", "maybe"],
            "observer 3": ["-1", "1"],
            "reader_id": ["7", "8"],
            "reader": ["Ann", "Ben"],
            "reading_room": ["1", "2"],
        }
    )
    readers, notes = readers_in(table)
    assert [(reader.name, reader.scale) for reader in readers] == [
        ("BI-RADS, reader2", "birads"),
        ("Reader 1", "score"),
        ("rater B", "birads"),
        ("rating-x", "score"),
        ("observer 3", "score"),
    ]
    assert readers[1].ratings.tolist() == [10, 90.5]
    assert readers[3].left_out == {"no number: 'maybe'": 1}
    assert notes == []


def test_a_fine_scale_has_no_cut_points_and_a_coarse_one_has_all_but_the_first() -> None:
    assert only("reader_1", [str(n) for n in range(100)]).cutoffs == {}
    assert list(only("reader_1", ["1", "2", "3", "3"]).cutoffs) == ["2", "3"]


def test_a_column_without_any_judgement_is_told() -> None:
    readers, notes = readers_in(pd.DataFrame({"birads": ["high", "low"], "reader_1": ["a", "b"]}))
    assert readers == []
    assert notes == [
        "column 'birads' is named for readers' judgements, but none of its values is a BI-RADS category",
        "column 'reader_1' is named for readers' judgements, but none of its values is a number",
    ]
