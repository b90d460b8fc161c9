"""Drift of what is measured of a line's parts, found at a stated rate of false alarms.

Each value becomes a conformal p-value: its rank among all earlier values. While the order of the
values means nothing (they are exchangeable), these are independent and uniform, whatever the
distribution of the values. A Shiryaev-Roberts statistic S bets against that: it grows by 1 a value
on average, and exponentially after a change. How often S reaches a limit by chance is therefore
bounded by the number of values over the limit (V. Vovk et al., "Retrain or not retrain: conformal
test martingales for change-point detection", 2021).
"""

from rdx_fast.drift.cause import LENS, LIGHT, PART, DriftAlarm, Shift
from rdx_fast.drift.conformal import OnlinePValues, ShiryaevRoberts
from rdx_fast.drift.monitor import SIGNALS, DriftMonitor, passed_scores

__all__ = [
    "LENS",
    "LIGHT",
    "PART",
    "SIGNALS",
    "DriftAlarm",
    "DriftMonitor",
    "OnlinePValues",
    "Shift",
    "ShiryaevRoberts",
    "passed_scores",
]
