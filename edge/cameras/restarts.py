"""When a capture process is started again after a failure, and when it is given up."""

from __future__ import annotations

from dataclasses import dataclass

from edge.clock import NS_PER_S


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Bounded back-off, in seconds. first_s, factor, longest_s: the wait doubles from the first to the longest.
    healthy_s: a process that ran this long was well, and the wait begins anew. open_s: to open a source may take this
    long. hang_s: so long may the decoder or driver sit on one picture. attempts: a file that fails so often without
    getting ``same_place`` pictures further is given up; a live source never is."""

    first_s: float = 0.2
    factor: float = 2.0
    longest_s: float = 5.0
    healthy_s: float = 10.0
    open_s: float = 15.0
    hang_s: float = 5.0
    attempts: int = 3
    same_place: int = 30


class Restarts:
    """Counts failures under a policy."""

    def __init__(self, policy: RestartPolicy, live: bool) -> None:
        self.policy = policy
        self.count = 0
        self._live = live
        self._wait_s = policy.first_s
        self._place: int | None = None
        self._failures_here = 0

    def after_failure(self, ran_ns: int, sequence: int) -> float | None:
        """Seconds to wait before the next start, None to give up. ran_ns: how long the process lived. sequence: of the
        last picture that ever came."""
        policy = self.policy
        if self._place is None or sequence - self._place >= policy.same_place:
            self._place = sequence
            self._failures_here = 0
        self._failures_here += 1
        if not self._live and self._failures_here >= policy.attempts:
            return None
        if ran_ns >= policy.healthy_s * NS_PER_S:
            self._wait_s = policy.first_s
        wait_s = self._wait_s
        self._wait_s = min(wait_s * policy.factor, policy.longest_s)
        self.count += 1
        return wait_s
