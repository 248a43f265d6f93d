"""The FleetState for advice: for a large fleet, a slightly outdated one while a new one is being built."""

import threading
import time
from collections.abc import Callable

from machines_server.core.routing.fleet import Fleet
from machines_server.failure_log import logger_of_failures
from machines_server.services.current_state import CurrentState
from machines_server.services.fleet_state import FleetState

LARGE_FLEET = 200
"""The state of a smaller fleet is built within 10 ms, so that nobody needs an outdated one."""
MAX_LAG_S = 2.0
"""How long a state may be used after it was last known to be current."""
CHECK_S = 0.05
"""How long a state is returned without asking the database for a newer one: asking takes system calls."""
RENEW_EVERY_S = 1.0
"""The least time from one renewal to the next, since answers take twice as long meanwhile."""
_PAUSE = 3
"""The pause between two renewals, as a multiple of the CPU time that one takes. A cycle is written in about
ten batches, and building a state for each would slow down too many answers."""

log = logger_of_failures(__name__)


class RecentState:
    """Returns a state at once, and renews it in the background; shared by the threads of a process."""

    def __init__(self, current: CurrentState, max_lag_s: float = MAX_LAG_S) -> None:
        self._current, self._max_lag_s = current, max_lag_s
        self._state: FleetState | None = None
        # By the monotonic clock, like `now` below.
        self._current_at = self._renew_at = self._check_at = float("-inf")
        self._renewing = threading.Lock()

    def get(self, prepare: Callable[[Fleet], None]) -> FleetState:
        """The state of a small fleet now, of a large one at most `max_lag_s` ago.

        A change of the files is part of it at once. `prepare` is called with each fleet that was built in the
        background, before that is returned for the first time.
        """
        return self._known(self._current.may_be_current, prepare) or self._build()

    def get_nowait(self, prepare: Callable[[Fleet], None]) -> FleetState | None:
        """The same, or None if it must be built or finding out would block."""
        return self._known(self._current.may_be_current_nowait, prepare) or self._current.get_nowait()

    def _known(
        self, may_be_current: Callable[[FleetState], bool], prepare: Callable[[Fleet], None]
    ) -> FleetState | None:
        """The last state, which is renewed now and then, or None if it may not be used."""
        state, now = self._state, time.monotonic()
        if state is None or not self._may_be_used(state, now) or not may_be_current(state):
            return None
        if self._renewing.locked() or now < self._check_at:
            return state
        self._check_at = now + CHECK_S
        if self._current.get_nowait() is state:
            self._current_at = now
        elif now >= self._renew_at and self._renewing.acquire(blocking=False):
            try:
                threading.Thread(target=self._renew, args=[prepare], name="renewal", daemon=True).start()
            except RuntimeError:  # there are too many threads
                self._renewing.release()
                return None
        return state

    def _may_be_used(self, state: FleetState, now: float) -> bool:
        """Return whether the state may be used even if machines were polled since, unless files changed."""
        return (
            now - self._current_at < self._max_lag_s
            and len(state.fleet.states) >= LARGE_FLEET
            and not state.fleet.has_unknown
        )

    def _build(self) -> FleetState:
        now = time.monotonic()
        self._state = state = self._current.get()
        self._current_at = now
        return state

    def _renew(self, prepare: Callable[[Fleet], None]) -> None:
        began, began_cpu = time.monotonic(), time.thread_time()
        try:
            state = self._current.get()
            if self._state is None or state.fleet is not self._state.fleet:
                prepare(state.fleet)
            if self._current_at <= began:  # else another thread has built a newer one
                self._state, self._current_at = state, began
        except Exception:
            log.exception("renewing the state for advice failed")
        finally:
            now = time.monotonic()
            pause_s = _PAUSE * (time.thread_time() - began_cpu)
            # The next renewal has to end before this state may not be used any more, even if it is slower.
            in_time = began + self._max_lag_s - 2 * (now - began)
            self._renew_at = min(max(began + RENEW_EVERY_S, now + pause_s), in_time)
            self._renewing.release()
