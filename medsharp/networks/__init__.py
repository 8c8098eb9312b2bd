"""Networks by name: timm's, and a few narrow variants for small data, wrapped to take uint8 images."""

from medsharp.networks.classifier import Classifier, Normalization
from medsharp.networks.create import create_network, list_networks
from medsharp.networks.weights import load_weights

__all__ = ["Classifier", "Normalization", "create_network", "list_networks", "load_weights"]
