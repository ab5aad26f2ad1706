"""Surprise: from prediction error and unfamiliarity to a calibrated, debounced alarm with a name."""

from edge.surprise.alarm import Alarm, AlarmRule
from edge.surprise.calibration import AlarmCalibration, CalibrationError
from edge.surprise.surprise import Surprise

__all__ = ["Alarm", "AlarmCalibration", "AlarmRule", "CalibrationError", "Surprise"]
