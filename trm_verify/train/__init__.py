"""Training with random depth and deep supervision; exact resume; Ctrl-C keeps the best parameters.

`settings` says what a run does, `unrolling` and `objectives` what one step minimizes, `curricula` and `levels` what it
is drawn from, `ema` which parameters are kept, `logs` where a run reports to, `loop` puts them together.
"""

from __future__ import annotations

from trm_verify.train.loop import TrainResult, evaluate, train
from trm_verify.train.settings import Settings
from trm_verify.train.state import EpochRecord

__all__ = ["EpochRecord", "Settings", "TrainResult", "evaluate", "train"]
