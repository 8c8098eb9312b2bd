"""The model beside the people who read the same images: BI-RADS categories or readers' scores in the table."""

from medsharp.evaluation.readers.comparator import CAVEATS, readers_of

__all__ = ["CAVEATS", "readers_of"]
