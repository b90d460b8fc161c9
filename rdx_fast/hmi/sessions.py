"""Who is logged in, and how often a login may fail."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from rdx_fast.hmi.users import User, Users

Clock = Callable[[], float]
_MOST = 1000  # sessions, of which the longest idle one ends


@dataclass(slots=True)
class Session:
    """A user who is logged in.

    Attributes:
        users: the user as when the session began, and with each password set in it since
        csrf: token that every change must state
        key: under which it is kept, the hash of the cookie's token
        ends: when it ends whatever happens, on the sessions' clock
        used: of the last request, on the sessions' clock
    """

    users: tuple[User, ...]
    csrf: str
    key: str
    ends: float
    used: float

    @property
    def user(self) -> User:
        """The user as now."""
        return self.users[-1]


class Sessions:
    """Sessions in memory: they end with the process. Used by any thread.

    Args:
        users: a session ends when its user is removed or changed
        idle_s: time without a request after which a session ends, in s
        longest_s: time after which it ends in any case, in s
        clock: returns seconds, never going back. Tests replace it
    """

    def __init__(
        self, users: Users, idle_s: float, longest_s: float, clock: Clock = time.monotonic
    ) -> None:
        self._users, self._clock = users, clock
        self._idle_s, self._longest_s = idle_s, longest_s
        self._lock = Lock()
        self._sessions: dict[str, Session] = {}

    def begin(self, user: User) -> tuple[str, Session]:
        """Begin a session.

        Returns:
            the token for the cookie, 32 random bytes as text, and the session
        """
        token, now = secrets.token_urlsafe(32), self._clock()
        key = _hashed(token)
        session = Session((user,), secrets.token_urlsafe(32), key, now + self._longest_s, now)
        with self._lock:
            self._sessions[key] = session
            if len(self._sessions) > _MOST:
                idle = min(self._sessions.values(), key=lambda of: of.used)
                del self._sessions[idle.key]
        return token, session

    def find(self, token: str | None, renew: bool = True) -> Session | None:
        """The session of a cookie's token; None if there is none or it has ended.

        Args:
            token: value of the cookie
            renew: whether the request counts as used
        """
        session = self._sessions.get(_hashed(token or ""))
        if session is None or not self.is_current(session):
            return None
        if renew:
            session.used = self._clock()
        return session

    def is_current(self, session: Session) -> bool:
        """Whether a session goes on; one that does not is forgotten."""
        name = session.user.name
        # Twice: the file may have been read just before the session's own user was written to it.
        with_user = any(self._users.get(name) in session.users for _ in range(2))
        current = self._sessions.get(session.key) is session and with_user
        if current and self.expires_in_s(session) > 0:
            return True
        self.end(session)
        return False

    def renew_user(self, session: Session, user: User) -> None:
        """Have a session go on with another password of its user. Call it before that one is
        written to the file of users: until then, the one before counts too."""
        session.users = (*session.users, user)

    def expires_in_s(self, session: Session) -> float:
        """Seconds until a session ends if no further request comes."""
        now = self._clock()
        return max(min(session.ends, session.used + self._idle_s) - now, 0.0)

    def end(self, session: Session) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(session.key, None)


def _hashed(token: str) -> str:
    # A look-up by the token itself would take a time that depends on how much of it is right.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class LoginLimit:
    """Limits failed logins: after some, each further one makes the next wait twice as long.

    Failures of the last hour are counted for each pair of a user and an address, and for each
    address. They are not counted for a user alone: then anybody in the network could keep a user
    out.

    Args:
        clock: returns seconds, never going back. Tests replace it
    """

    PAIR, ADDRESS = 5, 20  # failures without a wait
    LONGEST_S = 300.0
    FORGOTTEN_S = 3600.0  # since a failure
    MOST = 10_000  # counters

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._failures: dict[tuple[str, ...], deque[float]] = {}  # their times, oldest first

    def attempt(self, user: str, address: str) -> float:
        """Begin an attempt, which counts as failed until ``succeeded`` is called.

        Counted before the password is checked, so that many attempts at once are not one.

        Returns:
            0, or the seconds to wait; then nothing must be checked
        """
        now = self._clock()
        with self._lock:
            self._forget(now)
            keys = _keys(user, address)
            wait = max(self._wait(key, now) for key in keys)
            if wait > 0:
                return wait
            for key in keys:  # the latest key last
                self._failures[key] = self._failures.pop(key, deque())
                self._failures[key].append(now)
        return 0.0

    def succeeded(self, user: str, address: str) -> None:
        """The attempt had the right password: forget the pair's failures, and this one of the
        address."""
        pair, of_address = _keys(user, address)
        with self._lock:
            self._failures.pop(pair, None)
            if failures := self._failures.get(of_address):
                failures.pop()

    def _wait(self, key: tuple[str, ...], now: float) -> float:
        failures = self._failures.get(key)
        over = len(failures or ()) - (self.ADDRESS if len(key) == 1 else self.PAIR)
        if not failures or over < 0:
            return 0.0
        pause = min(2.0 ** min(over, 30), self.LONGEST_S)
        return max(failures[-1] + pause - now, 0.0)

    def _forget(self, now: float) -> None:
        """Drop failures that no longer count, and the counters of the longest ago if there are too
        many."""
        for failures in self._failures.values():
            while failures and failures[0] < now - self.FORGOTTEN_S:
                failures.popleft()
        empty = [key for key, failures in self._failures.items() if not failures]
        for key in [*list(self._failures)[: -self.MOST], *empty]:
            self._failures.pop(key, None)


def _keys(user: str, address: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The counters of an attempt: of the pair and of the address."""
    where = network_of(address)
    return (user, where), (where,)


def network_of(address: str) -> str:
    """An address; of IPv6 its network, since one machine has all addresses of it."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:
        return str(found)
    return str(ipaddress.ip_network((int(found), 64), strict=False).network_address)
