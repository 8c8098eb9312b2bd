"""What belongs together: one patient in several spellings is one, and is never taken for two."""

from __future__ import annotations

import pandas as pd
import pytest

from medsharp.keys import clusters_of, name_key, patient_key, patients_of, spellings


@pytest.mark.parametrize(
    "spelled",
    [
        ("P1", "P1 ", " p1", "P1\u00a0", "P\u200b1", "\ufeffP1", "P 1", "P01", "\uff30\uff11"),
        ("7", "7.0", "007", "7.00", "7,0", "\uff17"),
        ("A-1", "A\u20131", "a\u20111"),
        ("Müller", "Mu\u0308ller", "MÜLLER"),
        ("0", "00", "0.0"),
        ("", "-", "n/a", "Unknown", "nan", "None", "#N/A", "anonymous", "?"),
    ],
)
def test_spellings_of_one_patient_are_one(spelled: tuple[str, ...]) -> None:
    assert len({patient_key(text) for text in spelled}) == 1


def test_other_patients_stay_others() -> None:
    names = ("P1", "P2", "P10", "P11", "1", "10", "100", "0", "A-1", "A-11", "7.5", "1.1", "1.10", "7,5", "nana")
    assert len({patient_key(text) for text in names}) == len(names)
    assert patient_key("n/a") == ""
    assert patient_key("0") == "0"


def test_group_names_keep_zeros_and_blanks() -> None:
    assert name_key("benign (1).png") != name_key("benign (01).png")
    assert name_key("North  Clinic") == name_key("north clinic ")


def clusters(**columns: list[str]) -> list[int]:
    return clusters_of(pd.DataFrame(columns)).tolist()


def test_one_number_at_two_sites_is_two_patients_and_at_no_site_it_may_be_either() -> None:
    assert clusters(patient=["1", "1", "1"], site=["A", "B", "a "]) == [0, 1, 0]
    assert clusters(patient=["1", "1"], site=["A", ""]) == [0, 0]
    assert clusters(patient=["1", "1", "1", "2"], site=["A", "", "B", "B"]) == [0, 0, 0, 1]
    assert clusters(patient=["", "-", "n/a"], site=["A", "A", "A"]) == [0, 1, 2]


def test_a_keyed_hash_is_one_patient_at_whatever_sites() -> None:
    keyed, other = "P0012ab34cd56ef78", "P0012ab34cd56ef79"
    assert clusters(patient=[keyed, other, f" {keyed.lower()}"], site=["A", "A", "B"]) == [0, 1, 0]
    rows = pd.DataFrame({"patient": [keyed, keyed, other], "site": ["A", "B", "C"]})
    assert patients_of(rows).nunique() == 2
    for plain in (keyed[:-1], f"{keyed}0", keyed[1:], keyed.replace("e", "g"), f"X{keyed[1:]}"):
        assert clusters(patient=[plain, plain], site=["A", "B"]) == [0, 1]


def test_a_site_that_is_not_known_and_a_number_from_a_spreadsheet_divide_no_patient() -> None:
    assert clusters(patient=["1", "1"], site=["A", "unknown"]) == [0, 0]
    assert clusters(patient=["1", "1", "1"], site=["1", "1.0", "01"]) == [0, 0, 0]
    assert clusters(group=["1", "1.0", "01", "n/a", "-"]) == [0, 0, 0, 1, 2]


def test_groups_files_and_patients_tie_and_reach_further_together() -> None:
    assert clusters(patient=["1", "1", "2", "3"], group=["", "g", "G ", ""]) == [0, 0, 0, 1]
    assert clusters(image=["clip.dcm", "a.png", "clip.dcm"], patient=["", "", ""]) == [0, 1, 0]
    assert clusters(sha256=["aa", "", "aa", ""]) == [0, 1, 0, 2]
    assert clusters(other=["x", "x"]) == [0, 1]
    assert clusters_of(pd.DataFrame({"patient": []})).tolist() == []


def test_missing_values_are_no_patient() -> None:
    assert clusters_of(pd.DataFrame({"patient": [None, float("nan"), "1", "1"]})).tolist() == [0, 1, 2, 2]


def test_keys_keep_the_index_of_the_rows() -> None:
    rows = pd.DataFrame({"patient": ["1", "2"], "site": ["A", "A"]}, index=[7, 3])
    assert patients_of(rows).index.tolist() == [7, 3]


def test_spellings_are_told_with_the_most_frequent_first() -> None:
    values = pd.Series(["P1", "p1", "p1", "P2", "", "-"])
    assert spellings(values, values.map(patient_key)) == [("p1", "P1")]
