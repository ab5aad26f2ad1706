"""Planning: which actions lead from the present belief to the goal, as the world model foresees it."""

from edge.planning.planner import Planner, PlanningError
from edge.planning.sampling import SamplingPlanner

__all__ = ["Planner", "PlanningError", "SamplingPlanner"]
