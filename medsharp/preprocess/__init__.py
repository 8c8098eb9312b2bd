"""Grey pixels to network input: the one definition, for training, for the exporter's check and for serving."""

from medsharp.preprocess.overlays import find_overlays, remove_overlays
from medsharp.preprocess.place import placement, preprocess, preprocess_mask
from medsharp.preprocess.spec import Crop, Placement, PreprocessSpec

__all__ = [
    "Crop",
    "Placement",
    "PreprocessSpec",
    "find_overlays",
    "placement",
    "preprocess",
    "preprocess_mask",
    "remove_overlays",
]
