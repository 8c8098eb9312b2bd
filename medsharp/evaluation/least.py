"""How many images parts of a data set must have for figures of their own: groups, sites, readers, marked images."""

SMALLEST = 20
"""Parts of fewer images get no figures."""

LEAST_EVENTS = 10
"""A figure about fewer images of a part is withheld: specificity of two images is 0, 0.5 or 1."""

RESAMPLES = 1000
"""Of the patients at most, for parts: as many have percentiles, and there are many parts."""
