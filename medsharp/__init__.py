"""Sharpness-aware training of breast-ultrasound classifiers and honest evaluation on unseen hospitals."""

__version__ = "0.1.0"
