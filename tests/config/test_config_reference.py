"""The page of all settings is what the models say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from medsharp.config import TrainConfig
from medsharp.config_reference import configuration_page
from medsharp.optimizer_config import METHODS
from medsharp.settings import Section

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def sections(annotation: Any) -> Iterator[type[Section]]:
    """Every section within an annotation, itself included, at whatever depth."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
        for field in annotation.model_fields.values():
            yield from sections(field.annotation)
    for part in get_args(annotation):
        yield from sections(part)


ALL = list(dict.fromkeys(sections(TrainConfig)))


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == configuration_page(), (
        "run: python -m medsharp.config_reference > docs/configuration.md"
    )


def test_every_section_is_looked_at() -> None:
    assert len(ALL) > 30
    assert {*METHODS.values()} < {*ALL}


@pytest.mark.parametrize("section", ALL, ids=lambda section: section.__name__)
def test_every_key_has_a_meaning_of_its_own(section: type[Section]) -> None:
    assert section.__doc__ != Section.__doc__
    for name, field in section.model_fields.items():
        assert field.description, f"{section.__name__}.{name}"
        assert f"| `{name}` |" in configuration_page() or list(sections(field.annotation))


def test_page_tells_default_range_and_meaning() -> None:
    rows = configuration_page().splitlines()
    for row in (
        "| `lr` | `0.001` | number above 0 to 10 | learning rate, at the end of the warm-up |",
        "| `label_smoothing` | `0.1` | number 0 to below 1 | share of a label that is spread over all classes |",
        "| `eta` | `0.01` | number 0 to 1 | added to the absolute weight |",
        '| `normalization` | `"names"` | `names`, `elementwise` | what is scaled |',
        "| `theta` | `0.9` | number above 0 to 1 | share of the new gradient; 1 is SAM |",
        "| `k` | `5` | integer 1 or more | steps from one step of SAM to the next |",
        "| `betas` | `[0.9, 0.999]` | list of 2, each number 0 to below 1 | decay of the first and second moment |",
        "| `zoom` | `[0.85, 1.2]` | list of 2 numbers | smallest and largest factor |",
        "| `max_bytes` | `67108864` | integer 1 or more | bytes of a file |",
    ):
        assert row in rows
