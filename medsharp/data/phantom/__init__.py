"""Simulated hospitals: speckled breast-ultrasound images from a small physical model, for use without any data."""

from medsharp.data.phantom.dataset import phantom_dataset, write_phantom
from medsharp.data.phantom.scanner import HOSPITALS, Scanner
from medsharp.data.phantom.simulate import PhantomImage, simulate_image

__all__ = ["HOSPITALS", "PhantomImage", "Scanner", "phantom_dataset", "simulate_image", "write_phantom"]
