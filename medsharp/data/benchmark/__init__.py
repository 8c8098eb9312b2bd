"""What the way of the data costs and finds: one file a measurement, each gives a `Section` for `medsharp bench`."""

from medsharp.data.benchmark.crops import measure_crops
from medsharp.data.benchmark.drawings import measure_drawings
from medsharp.data.benchmark.duplicates import measure_duplicates
from medsharp.data.benchmark.manifests import measure_manifests
from medsharp.data.benchmark.section import Section

__all__ = ["Section", "measure_crops", "measure_drawings", "measure_duplicates", "measure_manifests"]
