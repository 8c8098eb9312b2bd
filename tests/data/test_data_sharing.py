"""However a batch or a split is divided: each image once, none dropped, and the same batches."""

from __future__ import annotations

from itertools import product

import pytest

from medsharp.data.sharing import Division, SharedBatches, rows_of

DIVISIONS = [Division(processes, accumulation) for processes, accumulation in product((1, 2, 3, 4), (1, 2, 3))]


@pytest.mark.parametrize("division", DIVISIONS, ids=str)
@pytest.mark.parametrize("images", [2, 3, 7, 8, 12, 30])
def test_parts_one_after_another_are_the_batch(division: Division, images: int) -> None:
    parts = [part for process in range(division.processes) for part in division.share(images, process)]
    assert [row for part in parts for row in part.rows[: part.counted]] == list(range(images))
    assert len(parts) == division.parts
    sizes = [part.counted for part in parts]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("images", [8, 13, 30])
def test_parts_are_the_same_whoever_evaluates_them(images: int) -> None:
    ways = [Division(1, 4), Division(2, 2), Division(4, 1)]
    divided = [[part for n in range(way.processes) for part in way.share(images, n)] for way in ways]
    assert divided[0] == divided[1] == divided[2]


@pytest.mark.parametrize("division", DIVISIONS, ids=str)
@pytest.mark.parametrize("images", [2, 3, 5])
def test_small_part_is_filled_up_with_other_images_of_the_batch(division: Division, images: int) -> None:
    for process in range(division.processes):
        for part in division.share(images, process, least=2):
            assert len(part.rows) == max(2, part.counted)
            assert len(set(part.rows)) == len(part.rows)
            assert set(part.rows) <= set(range(images))


@pytest.mark.parametrize("images", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_each_image_of_a_split_is_evaluated_by_one_process(images: int, processes: int) -> None:
    parts = [rows_of(images, process, processes) for process in range(processes)]
    assert [row for part in parts for row in part] == list(range(images))


@pytest.mark.parametrize("division", DIVISIONS, ids=str)
@pytest.mark.parametrize("drop_last", [False, True])
def test_all_processes_together_see_the_batches_of_one(division: Division, drop_last: bool) -> None:
    items = range(100, 130)
    alone = list(SharedBatches(items, 8, Division(), drop_last=drop_last))
    assert [len(batch) for batch in alone] == [8, 8, 8] + ([] if drop_last else [6])
    shares = [list(SharedBatches(items, 8, division, n, 0, drop_last)) for n in range(division.processes)]
    for number, batch in enumerate(alone):
        assert [item for share in shares for item in share[number]] == batch
