"""Training with random depth and deep supervision; exact resume; Ctrl-C keeps the best parameters."""

from __future__ import annotations

from trm_verify.train.loop import Settings, TrainResult, evaluate, train
from trm_verify.train.state import EpochRecord

__all__ = ["EpochRecord", "Settings", "TrainResult", "evaluate", "train"]
