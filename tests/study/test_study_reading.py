"""What is read is kept under a name that follows what the corruptions do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from training.study import reading
from training.study.definition import Robustness, StudyDefinition


def test_a_reading_of_other_corruptions_has_another_name(
    define: Callable[..., StudyDefinition], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = define()
    plain = study.model_copy(update={"robustness": Robustness()})
    mild, strong = (
        study.model_copy(update={"robustness": Robustness(corruptions=("haze", "gain_up"), severity=severity)})
        for severity in (2, 3)
    )
    names = {reading.reading_name("run", one) for one in (plain, mild, strong)}
    assert len(names) == 3
    assert reading.reading_name("run", plain) == "run.csv"
    assert reading.reading_name("run", mild) in names
    monkeypatch.setattr(reading, "fingerprint", lambda name, severity: f"redefined {name}")
    assert reading.reading_name("run", mild) not in names
    assert reading.reading_name("run", plain) == "run.csv"
