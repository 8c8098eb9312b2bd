"""Duplicates: exact, near and contradictory ones; one engine for training, the audit and the check for leaks."""

from medsharp.data.duplicates.index import NearPairs, near_pairs, pairs_within
from medsharp.data.duplicates.look import HASH_SIDE, Look, look, look_at_pixels, perceptual_hash
from medsharp.data.duplicates.looks import look_at
from medsharp.data.duplicates.matches import DISTANCE, Match, duplicate_matches
from medsharp.data.duplicates.tie import apply_matches, tie_duplicates, tie_looks, write_looks

__all__ = [
    "DISTANCE",
    "HASH_SIDE",
    "Look",
    "Match",
    "NearPairs",
    "apply_matches",
    "duplicate_matches",
    "look",
    "look_at",
    "look_at_pixels",
    "near_pairs",
    "pairs_within",
    "perceptual_hash",
    "tie_duplicates",
    "tie_looks",
    "write_looks",
]
