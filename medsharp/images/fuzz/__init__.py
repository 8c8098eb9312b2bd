"""Mutated image files, each of which must end in an image or in one named error, soon and in little memory."""

from medsharp.images.fuzz.campaign import Outcome, Trouble, case_file, run_campaign
from medsharp.images.fuzz.mutate import mutate
from medsharp.images.fuzz.seeds import FORMATS, seed_files

__all__ = ["FORMATS", "Outcome", "Trouble", "case_file", "mutate", "run_campaign", "seed_files"]
