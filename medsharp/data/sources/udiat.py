"""UDIAT, also called Dataset B: 163 images, Sabadell; on request."""

from __future__ import annotations

from pathlib import Path

from medsharp.data.manifest import DatasetInfo, Manifest, make_table
from medsharp.data.sources.source import Source
from medsharp.errors import InputError
from medsharp.tables import number, read_table, table_with

INFO = DatasetInfo(
    name="UDIAT",
    classes=("benign", "malignant"),
    licence="research only, by agreement with its authors",
    citation="Yap et al., Automated breast ultrasound lesions detection using convolutional neural networks, IEEE "
    "Journal of Biomedical and Health Informatics 22 (2018) 1218",
    source="UDIAT, Parc Taulí, Sabadell",
    doi="10.1109/JBHI.2017.2731873",
)
_NEEDED = ("Image", "Type")


def matches(folder: Path) -> bool:
    """Whether its table, `original` and `GT` are there."""
    return (folder / "original").is_dir() and (folder / "GT").is_dir() and table_with(folder, _NEEDED) is not None


def read(folder: Path) -> Manifest:
    """Read the table; `Image` is the number of the file `000001.png`.

    Raises:
        InputError: An image is missing, or its type is not known.
    """
    table = table_with(folder, _NEEDED)
    assert table is not None
    rows = []
    for line, entry in read_table(table, _NEEDED).records():
        name = f"{number(entry['Image']).removesuffix('.png').zfill(6)}.png"
        if not (folder / "original" / name).is_file():
            raise InputError(f"{table}, row {line}: original/{name} is missing")
        label = entry["Type"].lower()
        if label not in INFO.classes:
            raise InputError(f"{table}, row {line}: Type '{entry['Type']}' is not known")
        rows.append(
            {
                "image": f"original/{name}",
                "label": label,
                "site": INFO.source,
                "device": "Siemens ACUSON Sequoia C512",
                "mask": f"GT/{name}" if (folder / "GT" / name).is_file() else "",
            }
        )
    return Manifest(make_table(rows), INFO, folder)


UDIAT = Source(
    info=INFO,
    country="Spain",
    device="Siemens ACUSON Sequoia C512, 17L5 HD",
    images={"benign": 110, "malignant": 53},
    patients=None,
    masks=True,
    request="https://helward.mmu.ac.uk/STAFF/M.Yap/dataset.php (form)",
    flaws=("quoted both as 110 benign and 53 malignant and as 109 and 54",),
    verified=False,
    matches=matches,
    read=read,
)
