"""Where the weights come from that a training starts with: the record that run folder, card and bundle keep."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class WeightsOrigin(BaseModel):
    """Where initial weights come from.

    Attributes:
        kind: `hub` (Hugging Face), `url`, `package` (an installed Python package) or `file` (the user's own).
        name: Repository, package or file name; no folder of this machine.
        version: Commit of the repository, or version of the package; empty where there is none.
        file: The file's name within it.
        licence: As its publisher states it; empty where nobody does.
        sha256: Of the file; empty where it has not been fetched yet and its server does not tell.
        url: Where it can be had.
        mean: Of the pixels that they were trained on, scale 0 to 1, all colours together; None where unknown.
        std: Their standard deviation on the same scale, likewise.
        assumed: Whether the two are timm's for that network, because a file does not state its own.
        notes: What was adapted, left out or missing when they were loaded.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    kind: Literal["hub", "url", "package", "file"]
    name: str
    version: str = ""
    file: str = ""
    licence: str = ""
    sha256: str = ""
    url: str = ""
    mean: float | None = None
    std: float | None = None
    assumed: bool = False
    notes: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Return source, version, licence and hash in one sentence, without a full stop."""
        kind = {"hub": "the hub's ", "url": "the file ", "package": "the package ", "file": "the file "}[self.kind]
        version = f" {self.version[:12]}" if self.version else ""
        licence = self.licence or ("licence unknown" if self.kind == "file" else "no licence stated")
        digest = f"sha256 {self.sha256}" if self.sha256 else "not fetched yet"
        return f"weights of {kind}{self.name}{version} ({licence}; {digest})"
