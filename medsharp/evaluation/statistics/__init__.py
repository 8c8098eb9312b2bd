"""Numbers to figures: each a value with its interval, or with the reason why there is none."""
