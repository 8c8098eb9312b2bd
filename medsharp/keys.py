"""What belongs together: the one comparison of patients, sites and groups, for splits, leak checks and bootstraps.

Keys decide leaks, so that spellings which may be one thing are one here: `P1`, `P1 ` and `p1`; `7`, `7.0` and `007`.
Two patients that are taken for one cost a little balance; one that is taken for two makes an evaluation worthless.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_BETWEEN = "\x1f"
_UNKNOWN = re.compile(
    r"[-.?_/]*|n/a|n\.a\.|na|nan|nat|none|null|nil|not (available|applicable|known)|no id"
    r"|unk(nown)?|unbekannt|inconnue?|desconocid[oa]|sconosciut[oa]|desconhecid[oa]|onbekend|missing|tbd|k\. ?a\."
    r"|keine angabe|anon(ym(e|ous)?|imo)?|anonymi[sz]ed|anonymisiert|#(n/a|na|nv|ref!|value!|name\?|null!|wert!|bezug!)"
)
"""What people write where a patient is not known, casefolded. `0` is not among them: many number from 0."""
_WHOLE = re.compile(r"(-?\d+)(?:\.0+|,00?)")
_LEADING_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")
_KEYED = re.compile(r"p[0-9a-f]{16}")


def name_key(text: str) -> str:
    """Return what is compared of a name: compatibility forms, case, dashes, blanks and invisible signs do not count.

    Args:
        text: Such as a label, a file, or a column's name.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        # Dashes of every width are one; format characters (byte order marks, zero widths) are none.
        text = "".join("-" if (kind := unicodedata.category(sign)) == "Pd" else sign * (kind != "Cf") for sign in text)
    return " ".join(text.casefold().split())


def says_nothing(text: str) -> bool:
    """Whether a cell is empty, or says in one of the usual ways that nothing is known."""
    return _UNKNOWN.fullmatch(name_key(text)) is not None


def patient_key(text: str) -> str:
    """Return what is compared of a patient's identifier; empty where it says that the patient is not known.

    More than of a name is left out: zeros before a number, which spreadsheets drop; `.0` or `,0` after one, which they
    add; and blanks inside.
    """
    key = name_key(text)
    if _UNKNOWN.fullmatch(key):
        return ""
    if "0" not in key:
        return key.replace(" ", "")
    whole = _WHOLE.fullmatch(key)
    return _LEADING_ZEROS.sub("", whole[1] if whole else key.replace(" ", ""))


def is_keyed(text: str) -> bool:
    """Whether a patient's number is a keyed hash, as `medsharp data prepare` gives them.

    The same one is the same patient: 64 bits are equal by chance in no collection of patients, so that two equal ones
    come of one identifier and one key.
    """
    return _KEYED.fullmatch(name_key(text)) is not None


def site_key(text: str) -> str:
    """Return what is compared of a site, by the rules of `patient_key`: sites are numbered in spreadsheets, too."""
    return patient_key(text)


def group_key(text: str) -> str:
    """Return what is compared of a `group`; numbers as `patient_key` does, names as `name_key` does.

    Names keep their zeros: groups may be called by their images, of which `1.png` and `01.png` are two.
    """
    key = name_key(text)
    return patient_key(key) if re.fullmatch(r"-?\d+(\.0+|,00?)?", key) or _UNKNOWN.fullmatch(key) else key


@dataclass(frozen=True)
class Keys:
    """Keys of rows as numbers, which are compared fast.

    Attributes:
        codes: int64 [n], the same for rows that belong together; -1 where nothing is known.
        names: object, the key of each code.
    """

    codes: np.ndarray
    names: np.ndarray


def patients_in(rows: pd.DataFrame) -> Keys:
    """Return what is compared of each row's patient, with the site where that tells patients apart.

    One identifier at two sites is two patients, unless it is a keyed hash (`is_keyed`): that is one patient wherever it
    stands. Where some rows of an identifier name no site, they may be of any of its sites, so that all of them count as
    one patient.

    Args:
        rows: With `patient`, and perhaps `site`.
    """
    patients, sites = keys_in(rows, "patient", patient_key), keys_in(rows, "site", site_key)
    anywhere = np.zeros(len(patients.names) + 1, dtype=bool)
    anywhere[patients.codes[(sites.codes < 0) | keyed_in(rows)]] = True
    place = np.where(anywhere[patients.codes], 0, sites.codes + 1)
    both = np.where(patients.codes < 0, -1, patients.codes * (len(sites.names) + 1) + place)
    kinds, codes = np.unique(both, return_inverse=True)
    if len(kinds) and kinds[0] < 0:
        kinds, codes = kinds[1:], codes - 1
    who, where = np.divmod(kinds, len(sites.names) + 1)
    at = np.append(sites.names, "")[where - 1]
    return Keys(codes, np.where(where > 0, at + _BETWEEN, "") + patients.names[who])


def keyed_in(rows: pd.DataFrame) -> np.ndarray:
    """Return which rows have a keyed hash as their patient (see `is_keyed`), bool [n]."""
    return keys_in(rows, "patient", lambda text: "keyed" if is_keyed(text) else "").codes >= 0


def groups_in(rows: pd.DataFrame) -> Keys:
    """Return what is compared of each row's `group`."""
    return keys_in(rows, "group", group_key)


def values_in(rows: pd.DataFrame, column: str) -> Keys:
    """Return the values of a column as they are, such as `sha256`."""
    if column not in rows:
        return keys_in(rows, column, str)
    values = rows[column].to_numpy(dtype=object)
    codes, names = pd.factorize(np.where(values == "", None, values))
    return Keys(codes, names)


def patients_of(rows: pd.DataFrame) -> pd.Series:
    """Return the key of each row's patient (see `patients_in`) as text, empty where it is not known; index as given."""
    keys = patients_in(rows)
    return pd.Series(np.append(keys.names, "")[keys.codes], index=rows.index, dtype=object)


def clusters_of(rows: pd.DataFrame) -> np.ndarray:
    """Return what no split divides and a bootstrap resamples together.

    Rows are together that share a patient, a `group` (of near-duplicates), or the file: the frames of a clip, and equal
    files by `sha256`. A row that has none of these is alone.

    Args:
        rows: A manifest's or predictions'; columns that are missing count as empty.

    Returns:
        int [n], clusters 0, 1, ... in the order of their first rows.
    """
    count = len(rows)
    if not count:
        return np.empty(0, dtype=np.int64)
    links = []
    nodes = count
    for keys in (patients_in(rows), groups_in(rows), values_in(rows, "image"), values_in(rows, "sha256")):
        known = np.flatnonzero(keys.codes >= 0)
        links.append(np.stack([known, keys.codes[known] + nodes]))
        nodes += len(keys.names)
    # A graph of rows, patients, groups and files; what hangs together is a cluster.
    one, other = np.concatenate(links, axis=1)
    ties = coo_array((np.ones(len(one), dtype=np.int8), (one, other)), shape=(nodes, nodes))
    _, component = connected_components(ties, directed=False)
    return pd.factorize(component[:count])[0]


def resampled(rows: pd.DataFrame, clusters: np.ndarray) -> str:
    """Say what the clusters of rows are: patients, groups where not every patient is known, or single images.

    Args:
        rows: A manifest's or predictions'.
        clusters: As `clusters_of` gives them [n].
    """
    known = patients_of(rows) != ""
    return unit_of(int(known.sum()), len(rows), len(np.unique(clusters)))


def unit_of(known: int, images: int, clusters: int) -> str:
    """Say what is resampled, by how many images have a patient, of how many, in how many clusters."""
    if known == images:
        return "patients"
    if not known and clusters == images:
        return "images, as patients are unknown"
    return "patients or groups of near-duplicates"


def spellings(values: pd.Series, keys: pd.Series) -> list[tuple[str, ...]]:
    """Return what is written in several ways and compared as one, each with its spellings.

    The most frequent comes first; of as frequent ones, that in small letters.

    Args:
        values: Cells; empty ones are left out.
        keys: What is compared of each; empty ones are left out.
    """
    counts = pd.DataFrame({"key": keys, "value": values})
    counts = counts[(counts["key"] != "") & (counts["value"] != "")].value_counts().reset_index(name="count")
    several = counts[counts.duplicated("key", keep=False)].sort_values(["key", "count", "value"], ascending=[1, 0, 0])
    return [tuple(part["value"]) for _, part in several.groupby("key", sort=True)]


def united_sites(sites: pd.Series) -> tuple[pd.Series, list[tuple[str, ...]]]:
    """Return sites in one spelling each, the most frequent, and those that have several (see `spellings`)."""
    several = spellings(sites, sites.map({name: site_key(name) for name in sites.unique()}))
    return sites.replace({other: names[0] for names in several for other in names[1:]}), several


def united_counts(counts: Mapping[str, int]) -> dict[str, int]:
    """Return how many rows each site has, from those of each spelling, under the spelling of `united_sites`."""
    spelled: dict[str, list[str]] = {}
    for name in counts:
        spelled.setdefault(site_key(name) or name, []).append(name)
    return {
        max(names, key=lambda name: (counts[name], name)): sum(counts[name] for name in names)
        for names in spelled.values()
    }


def text_of(table: pd.DataFrame, column: str) -> pd.Series:
    """Return a column as text without surrounding blanks, empty where it or a value is missing."""
    if column not in table:
        return pd.Series("", index=table.index, dtype=object)
    values = table[column]
    return values.astype(object).where(values.notna(), "").astype(str).str.strip()


def named(values: Sequence[str], most: int = 3) -> str:
    """Return names for a sentence: quoted, the first few, and how many more."""
    shown = ", ".join(f"'{value}'" for value in values[:most])
    return shown + (f" and {len(values) - most} more" if len(values) > most else "")


def keys_in(rows: pd.DataFrame, column: str, key: Callable[[str], str]) -> Keys:
    """Return a key of each cell of a column, by one of the functions above; each text is taken once, as they repeat."""
    if column not in rows:
        return Keys(np.full(len(rows), -1), np.empty(0, dtype=object))
    place, texts = pd.factorize(rows[column].to_numpy(dtype=object))  # -1 where a value is missing
    codes, names = pd.factorize(np.array([key(str(text).strip()) for text in texts] + [""], dtype=object))
    empty = codes[-1]
    # The empty key goes; those behind it move up.
    codes = np.where(codes == empty, -1, codes - (codes > empty))
    return Keys(codes[place], np.delete(names, empty))
