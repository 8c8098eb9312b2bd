"""Networks by name: timm's, and a few narrow variants for small data, wrapped to take uint8 images."""

from medsharp.networks.classifier import BY_IMAGE, LESION_FLOOR, Classifier, Normalization, Pooling
from medsharp.networks.create import check_name, create_network, find_weights, list_networks
from medsharp.networks.packages import list_packaged
from medsharp.networks.weights import load_weights, restore_weights

__all__ = [
    "BY_IMAGE",
    "LESION_FLOOR",
    "Classifier",
    "Normalization",
    "Pooling",
    "check_name",
    "create_network",
    "find_weights",
    "list_networks",
    "list_packaged",
    "load_weights",
    "restore_weights",
]
