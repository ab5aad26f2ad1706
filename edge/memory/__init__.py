"""Memory that persists: what happened here, what is normal here, and where the runtime was when it stopped."""

from edge.memory.concepts import Concepts
from edge.memory.episode import KINDS, BeliefCheckpoint, Episode, pooled
from edge.memory.index import Match
from edge.memory.ledger import MemoryUnavailable
from edge.memory.memory import Memory

__all__ = ["KINDS", "BeliefCheckpoint", "Concepts", "Episode", "Match", "Memory", "MemoryUnavailable", "pooled"]
