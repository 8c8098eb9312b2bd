"""What training tells while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Events = Callable[[dict[str, Any]], None]
"""Called with a dictionary for each thing that happens; unknown kinds and fields are to be ignored.

- `cache`: `done`, `total` (images decoded, of all splits together), `what` (the work in words); none where the cache
  has all of them from an earlier start.
- `start`: `epoch` (the first to be trained, more than 0 after resuming), `epochs`, `steps` (an epoch), `images` (of
  training), `parameters`, `device`, `precision` (bf16, fp16 or fp32), `precision_reason` (why that, where it was chosen
  just now, else empty), `processes` (that train together), `notes` (sentences on loaded weights and on masks).
- `batch`: `epoch`, `done`, `total` (steps of the epoch), `loss` (of the batch; with several processes, of the first
  one's share), `images_per_second` (of all) and `wait_seconds` (how long the loop waited for data), both since the
  epoch began.
- `epoch`: `best` (whether it is the best so far) and the line of `metrics.jsonl`; `wait_seconds` there is how long the
  steps of the epoch waited for data, and `wait_share` the same as a share of the time in steps.
- `end`: `epochs`, `trained` (by this call; 0 when the run was finished already), `kept_epoch`, `val_auroc`
  (both of the weights that the run keeps).

Epochs count from 0.
"""
