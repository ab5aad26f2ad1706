"""The local status page: what a person near the machine sees of the loop, and the few things they may do to it."""

from edge.dashboard.operator import Operator, Refused
from edge.dashboard.server import Dashboard, DashboardError

__all__ = ["Dashboard", "DashboardError", "Operator", "Refused"]
