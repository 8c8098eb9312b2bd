"""What belongs together beyond rows of one patient, and images that stand twice: found by sorting on disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medsharp.errors import InputError
from medsharp.evaluation.readers.long_tables import reader_column
from medsharp.evaluation.streamed.runs import SortedRuns
from medsharp.tables import TablePieces

MOST_TIES = 1_000_000
"""Ties between patients that are held in memory."""

_MOST_SUSPECTS = 1000


@dataclass(frozen=True)
class Ties:
    """Patients that count as one.

    Attributes:
        nodes: Those that are tied to others, ascending, uint64 [n].
        roots: What stands for all that are tied: the least of them [n].
    """

    nodes: np.ndarray
    roots: np.ndarray

    def root_of(self, nodes: np.ndarray) -> np.ndarray:
        """Return what stands for each node [m]."""
        if not len(self.nodes):
            return nodes
        place = np.minimum(np.searchsorted(self.nodes, nodes), len(self.nodes) - 1)
        return np.where(self.nodes[place] == nodes, self.roots[place], nodes)


def patients_across_sites(places: SortedRuns, name: str) -> Ties:
    """Return identifiers of which some rows name no site, so that those of all sites are one patient.

    Args:
        places: See `medsharp.evaluation.streamed.reading.Stored`.
        name: Of the table in errors.

    Raises:
        InputError: There are more than fit into memory.
    """
    # A row without a site has the identifier itself as its node.
    return _tied(list(_several(places, name, itself=True)))


def tied_patients(groups: SortedRuns, sites: Ties, name: str) -> Ties:
    """Return patients that are one because a group of near-duplicates or a file ties them, or because `sites` do.

    Raises:
        InputError: There are more than fit into memory.
    """
    pairs = list(_several(groups, name))
    return _tied([*pairs, np.stack([sites.nodes, sites.roots], axis=1)])


def assert_once(images: SortedRuns, table: TablePieces) -> None:
    """Refuse a table in which an image stands twice.

    Raises:
        InputError: One does; the sentence names its second row.
    """
    suspects: list[np.ndarray] = []
    for keys in images.ranges():
        first = np.empty(0, dtype=images.kind)  # of a key that fills more than one piece
        for piece in keys.pieces():
            rows = np.concatenate([first, piece])
            rows = rows[np.lexsort((rows["row"], rows["key"]))]
            again = np.flatnonzero(rows["key"][1:] == rows["key"][:-1]) + 1
            suspects.extend(np.stack([rows["row"][again - 1], rows["row"][again]], axis=1)[:_MOST_SUSPECTS])
            first = rows[:1]
            if len(suspects) >= _MOST_SUSPECTS:
                break
        if len(suspects) >= _MOST_SUSPECTS:
            break
    if not suspects:
        return
    # Two names may have one number: their rows are read again.
    names = _names(table, {int(row) for pair in suspects for row in pair})
    twice = sorted(int(max(pair)) for pair in suspects if names[int(pair[0])] == names[int(pair[1])])
    if twice:
        who = reader_column(table.columns)
        several = "" if who is None else f"; a table with a row for each {who} is read without --stream"
        least = " or more" if len(suspects) >= _MOST_SUSPECTS else ""
        more = f" ({len(twice)} such rows{least})" if len(twice) > 1 else ""
        raise InputError(f"{table.path.name}, row {twice[0]}: {names[twice[0]]} stands twice{more}{several}")


def _names(table: TablePieces, rows: set[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    for frame in table.read():
        here = frame.index[frame.index.isin(list(rows))]
        found |= {int(row): str(frame.at[row, "image"]) for row in here}
        if len(found) == len(rows):
            break
    return found


def _several(runs: SortedRuns, name: str, *, itself: bool = False) -> Iterator[np.ndarray]:
    """Give pairs of different nodes that have a key in common [n, 2], uint64.

    Args:
        runs: With fields `key` and `node`.
        name: Of the table.
        itself: Only of keys that are among their nodes.
    """
    total = 0
    for keys in runs.ranges():
        rows = np.empty(0, dtype=runs.kind)
        for piece in keys.pieces():
            rows = np.unique(np.concatenate([rows, piece]))
            if len(rows) > runs.held + MOST_TIES:
                raise _too_many(name)
        starts = np.flatnonzero(np.r_[True, rows["key"][1:] != rows["key"][:-1]])
        sizes = np.diff(np.r_[starts, len(rows)])
        tied = sizes > 1
        if itself:
            tied &= np.add.reduceat((rows["node"] == rows["key"]).astype(np.int64), starts) > 0
        first = np.repeat(starts, sizes)
        tied = np.repeat(tied, sizes) & (np.arange(len(rows)) != first)
        pairs = np.stack([rows["node"][first[tied]], rows["node"][tied]], axis=1)
        total += len(pairs)
        if total > MOST_TIES:
            raise _too_many(name)
        yield pairs


def _too_many(name: str) -> InputError:
    return InputError(
        f"{name} ties more than {MOST_TIES:,} patients by group, file or site, which --stream cannot hold; give what "
        "belongs together one name in the column patient, or score without --stream"
    )


def _tied(pairs: list[np.ndarray]) -> Ties:
    """Return what hangs together by pairs [n, 2] each."""
    joined = np.concatenate([*pairs, np.empty((0, 2), dtype=np.uint64)])
    nodes, places = np.unique(joined, return_inverse=True)
    one, other = places.reshape(-1, 2).T
    graph = coo_array((np.ones(len(one), dtype=np.int8), (one, other)), shape=(len(nodes), len(nodes)))
    _, component = connected_components(graph, directed=False) if len(nodes) else (0, np.empty(0, dtype=np.int64))
    # Nodes ascend, so that the first of a component is its least.
    _, least = np.unique(component, return_index=True)
    return Ties(nodes, nodes[least[component]] if len(nodes) else nodes)
