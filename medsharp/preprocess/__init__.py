"""Grey pixels to network input: the one definition, for training, for the exporter's check and for serving."""

from medsharp.preprocess.overlays import Drawings, find_drawings, find_overlays, remove_overlays
from medsharp.preprocess.place import placement, preprocess, preprocess_mask
from medsharp.preprocess.spec import Crop, Placement, PreprocessSpec

__all__ = [
    "Crop",
    "Drawings",
    "Placement",
    "PreprocessSpec",
    "find_drawings",
    "find_overlays",
    "placement",
    "preprocess",
    "preprocess_mask",
    "remove_overlays",
]
