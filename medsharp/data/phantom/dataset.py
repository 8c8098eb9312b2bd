"""A simulated hospital on disk: images, masks and a manifest, or the cached default data set."""

from __future__ import annotations

import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from medsharp.cores import usable_cores
from medsharp.data.manifest import DatasetInfo, Manifest, make_table, read_manifest, write_manifest
from medsharp.data.phantom.anatomy import draw_breast
from medsharp.data.phantom.lesions import CLASSES, draw_lesion
from medsharp.data.phantom.scanner import Scanner, find_scanner
from medsharp.data.phantom.simulate import simulate_image
from medsharp.errors import InputError
from medsharp.files import atomic_folder, cache_folder
from medsharp.progress import Progress

# Part of the name of the cached folder: raise it whenever the images change.
RECIPE = 1
DEFAULT_PATIENTS = 300
VIEWS = ("radial", "antiradial")


def write_phantom(
    folder: str | Path,
    *,
    hospital: str | Scanner = "A",
    patients: int = 200,
    seed: int = 0,
    size: int = 256,
    malignant_share: float = 0.4,
    progress: Progress | None = None,
) -> Manifest:
    """Simulate the patients of a hospital and write them as a data set.

    Patient number p is the same whatever the number of patients: its chance comes from (seed, hospital, p) alone.

    Args:
        folder: Made; gets `images/`, `masks/`, `manifest.csv` and `manifest.yaml`.
        hospital: `A`, `B`, `C`, or a scanner of your own.
        patients: How many; each has one or two views.
        seed: The same seed gives the same bytes.
        size: Side of the square images in pixels.
        malignant_share: Share of patients whose lesion is malignant, 0 to 1.
        progress: Called with (patients done, patients in all, what).

    Returns:
        The manifest, with `image`, `label`, `patient`, `site`, `device`, `view`, `birads`, `mask`, and the descriptors
        as further columns.

    Raises:
        InputError: Unknown hospital, a number out of range, or `folder` exists and is not empty.
    """
    scanner = find_scanner(hospital)
    if patients < 1:
        raise InputError(f"patients is {patients}; simulate at least 1")
    if seed < 0:
        raise InputError(f"seed is {seed}; give 0 or a positive number")
    if not 0.0 <= malignant_share <= 1.0:
        raise InputError(f"malignant_share is {malignant_share}; give a share from 0 to 1")

    folder = Path(folder)
    rows: list[dict[str, str]] = []
    with atomic_folder(folder) as temporary:
        for name in ("images", "masks"):
            (temporary / name).mkdir()

        def write(patient: int) -> list[dict[str, str]]:
            # Rounding makes the share exact and the label of a patient independent of how many follow.
            malignant = int((patient + 1) * malignant_share + 1e-9) > int(patient * malignant_share + 1e-9)
            return _write_patient(temporary, scanner, CLASSES[malignant], patient, seed, size)

        # Threads suffice: FFTs, filters and PNG compression release the interpreter lock.
        with ThreadPoolExecutor(max_workers=max(2, usable_cores())) as pool:
            try:
                for done, views in enumerate(pool.map(write, range(patients)), start=1):
                    rows += views
                    if progress is not None:
                        progress(done, patients, "simulating patients")
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # an interrupt must not wait for patients not begun
                raise
        table = make_table(rows)
        info = DatasetInfo(
            name=f"simulated hospital {scanner.hospital}",
            classes=CLASSES,
            licence="Apache-2.0",
            source="medsharp data phantom: simulated images, no patient was scanned",
        )
        manifest = Manifest(table=table, info=info, root=temporary)
        write_manifest(manifest, temporary)
    return Manifest(table=table, info=info, root=folder)


def phantom_dataset(
    spec: str = "phantom", *, patients: int = DEFAULT_PATIENTS, progress: Progress | None = None
) -> Manifest:
    """Return a simulated hospital from the cache, making it the first time.

    Args:
        spec: `phantom` (hospital A) or `phantom:B`.
        patients: How many patients it has.
        progress: Called with (patients done, patients in all, what) while it is made.

    Raises:
        InputError: `spec` does not name a simulated hospital.
    """
    kind, _, hospital = spec.partition(":")
    if kind != "phantom":
        raise InputError(f"'{spec}' is not a simulated data set; write 'phantom' or 'phantom:B'")
    scanner = find_scanner(hospital or "A")
    folder = cache_folder() / f"phantom-{RECIPE}-{scanner.hospital}-{patients}"
    if not folder.is_dir():
        _make_once(folder, scanner, patients, progress)
    return read_manifest(folder)


def _make_once(folder: Path, scanner: Scanner, patients: int, progress: Progress | None) -> None:
    """Write the data set beside `folder` and rename it, unless another process was first: the bytes are the same."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
            write_phantom(Path(temporary) / "data", hospital=scanner, patients=patients, progress=progress)
            # A folder that is not empty cannot be renamed over, so the first to finish wins and the rest is dropped.
            (Path(temporary) / "data").rename(folder)
    except OSError as error:
        if not (folder / "manifest.csv").is_file():
            raise InputError(f"cannot write {folder}: {error.strerror}; set XDG_CACHE_HOME elsewhere") from error


def _write_patient(
    folder: Path, scanner: Scanner, label: str, patient: int, seed: int, size: int
) -> list[dict[str, str]]:
    """Simulate and write the views of one patient; return their rows of the manifest."""
    hospital = zlib.crc32(f"{scanner.hospital}/{scanner.name}".encode())
    rng = np.random.default_rng(np.random.SeedSequence([seed, hospital, patient]))
    lesion = draw_lesion(label, rng, atypical=scanner.atypical, scale=scanner.lesion_scale)
    breast = draw_breast(rng)
    rows = []
    for view in range(int(rng.integers(1, len(VIEWS) + 1))):
        name = f"{scanner.hospital}-{patient + 1:04d}-{view + 1}.png"
        image = simulate_image(scanner, label, rng, size, lesion=lesion, breast=breast)
        Image.fromarray(image.pixels).save(folder / "images" / name, compress_level=2)
        Image.fromarray(image.mask.astype(np.uint8) * 255).save(folder / "masks" / name, compress_level=2)
        rows.append(
            {
                "image": f"images/{name}",
                "label": label,
                "patient": f"{scanner.hospital}-{patient + 1:04d}",
                "site": f"simulated hospital {scanner.hospital}",
                "device": scanner.name,
                "view": VIEWS[view],
                "birads": lesion.birads,
                "mask": f"masks/{name}",
                **{key: str(value) for key, value in image.descriptors.items()},
            }
        )
    return rows
