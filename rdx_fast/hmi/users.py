"""Users of the page: a JSON file with names, roles and hashed passwords."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import unicodedata
from base64 import b64decode, b64encode
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import dacite

from rdx_fast.durable import locked, write_whole
from rdx_fast.errors import RdxError
from rdx_fast.reading import in_words

ROLES = ("operator", "engineer")  # each may do what those before may
_NAME = re.compile(r"[\w.@-]{1,64}")
_LENGTHS = range(8, 257)  # of a password, in characters


class UsersError(RdxError):
    """The file of users cannot be read or written, or a user cannot be added or removed."""


class PasswordLengthError(UsersError):
    """A password is too short or too long."""


@dataclass(frozen=True, slots=True)
class Hashed:
    """A password as scrypt (RFC 7914) has hashed it.

    Attributes:
        salt: 16 random bytes, in base64
        key: 32 bytes, in base64
        n: cost in time and memory, a power of two
        r: block size; n and r together take 128 n r bytes of memory
        p: number of passes
    """

    salt: str
    key: str
    n: int = 2**15
    r: int = 8
    p: int = 1

    @classmethod
    def of(cls, password: str, n: int = 2**15) -> Hashed:
        """Hash a password with a new salt."""
        empty = cls(b64encode(secrets.token_bytes(16)).decode(), "", n)
        return cls(empty.salt, b64encode(empty.derived(password)).decode(), n)

    def derived(self, password: str) -> bytes:
        """The key of a password with this salt and cost."""
        # The same password, whichever keyboard composed its letters.
        text = unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
        cost = {"n": self.n, "r": self.r, "p": self.p}
        memory = 256 * self.n * self.r + 2**20
        return hashlib.scrypt(text, salt=b64decode(self.salt), maxmem=memory, dklen=32, **cost)

    def fits(self, password: str) -> bool:
        """Whether this is the password, compared in constant time."""
        return hmac.compare_digest(self.derived(password), b64decode(self.key))


@dataclass(frozen=True, slots=True)
class User:
    """A user.

    Attributes:
        name: by which the user logs in
        role: one of ``ROLES``
        password: hashed

    Raises:
        ValueError: the name or the role is not allowed
    """

    name: str
    role: str
    password: Hashed

    def __post_init__(self) -> None:
        if not is_user_name(self.name):
            raise ValueError(
                f"the user name is {self.name!r}, wanted 1 to 64 letters, digits or . _ @ -"
            )
        if self.role not in ROLES:
            raise ValueError(f"the role is {self.role!r}, wanted {' or '.join(ROLES)}")


# Around the writing of the file: what else is done for the user who is added, removed or changed.
Around = Callable[[User], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class _Content:
    version: int
    users: tuple[User, ...]


class Users:
    """The users of a file, read again when it changes. Used by any thread.

    Args:
        path: the JSON file; a missing one holds no users
        n: cost of new passwords, see ``Hashed``. Tests lower it
    """

    def __init__(self, path: Path, n: int = 2**15) -> None:
        self._path, self._n = path, n
        self._held: tuple[tuple[int, int, int] | None, dict[str, User]] = None, {}

    def prepare(self) -> None:
        """Do once, before the first login, what takes as long as a login."""
        assert self._nobody

    @cached_property
    def _nobody(self) -> Hashed:
        """Takes as long as a user's own: nobody learns from the time which users there are."""
        return Hashed.of(secrets.token_hex(), self._n)

    def all(self) -> list[User]:
        """The users, by name. Raises ``UsersError`` if the file cannot be read."""
        stamp = self._stamp()
        if stamp is None:
            return []
        held = self._held
        if held[0] != stamp:
            self._held = held = stamp, {user.name: user for user in self._read()}
        return sorted(held[1].values(), key=lambda user: user.name)

    def get(self, name: str) -> User | None:
        """A user; None if there is none of this name."""
        return next((user for user in self.all() if user.name == name), None)

    def check(self, name: str, password: str) -> User | None:
        """The user of this name and password; None otherwise. Takes a tenth of a second."""
        user = self.get(name)
        fits = (self._nobody if user is None else user.password).fits(password)
        return user if fits else None

    def add(self, name: str, role: str, password: str, around: Around = nullcontext) -> User:
        """Add a user.

        Args:
            name: of the user
            role: one of ``ROLES``
            password: in clear
            around: called with the user once nothing stands against it; the file is written inside
                the ``with`` of what it returns

        Raises:
            UsersError: there is one of this name, or name, role or password are not allowed
        """
        with locked(self._folder()):
            users = self.all()
            if any(user.name == name for user in users):
                raise UsersError(f"{self._path} has a user {name!r} already: remove it first")
            user = self._user(name, role, password)
            with around(user):
                self._write([*users, user])
        return user

    def set_password(self, name: str, password: str, around: Around = nullcontext) -> User:
        """Give a user another password. Arguments and errors are as for ``add``."""
        with locked(self._folder()):
            present = self._the(name)
            changed = self._user(name, present.role, password)
            with around(changed):
                self._write([changed if user == present else user for user in self.all()])
        return changed

    def remove(self, name: str, around: Around = nullcontext) -> User:
        """Remove a user, whose sessions end. Raises ``UsersError`` if there is none."""
        with locked(self._folder()):
            gone = self._the(name)
            with around(gone):
                self._write([user for user in self.all() if user != gone])
        return gone

    def _the(self, name: str) -> User:
        user = self.get(name)
        if user is None:
            names = ", ".join(user.name for user in self.all()) or "nobody"
            raise UsersError(f"{self._path} has no user {name!r}: it has {names}")
        return user

    def _user(self, name: str, role: str, password: str) -> User:
        if len(password) not in _LENGTHS:
            raise PasswordLengthError(
                f"the password has {len(password)} characters, wanted {_LENGTHS.start} to "
                f"{_LENGTHS.stop - 1}"
            )
        try:
            return User(name, role, Hashed.of(password, self._n))
        except ValueError as error:
            raise UsersError(str(error)) from error

    def _folder(self) -> Path:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsersError(f"{self._path} cannot be written: {error}") from error
        return self._path.parent

    def _stamp(self) -> tuple[int, int, int] | None:
        """Identifies the version of the file; None if there is none."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsersError(f"{self._path} cannot be read: {error}") from error
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _read(self) -> tuple[User, ...]:
        try:
            given = json.loads(self._path.read_text(encoding="utf-8"))
            content = dacite.from_dict(_Content, given, dacite.Config(strict=True, cast=[tuple]))
        except (OSError, ValueError, TypeError, AttributeError, dacite.DaciteError) as error:
            raise UsersError(f"{self._path} is not a file of users: {in_words(error)}") from error
        if content.version != 1:
            raise UsersError(
                f"{self._path} has version {content.version}, this rdx_fast reads version 1"
            )
        return content.users

    def _write(self, users: list[User]) -> None:
        text = json.dumps(asdict(_Content(1, tuple(users))), indent=2, ensure_ascii=False)
        try:
            write_whole(self._path, f"{text}\n".encode(), mode=0o600)
        except OSError as error:
            raise UsersError(f"{self._path} cannot be written: {error}") from error


def is_user_name(text: str) -> bool:
    """Whether a user may have this name."""
    return _NAME.fullmatch(text) is not None


def open_to_others(path: Path) -> bool:
    """Whether others than a file's owner may read or write it."""
    return os.name == "posix" and path.exists() and bool(path.stat().st_mode & 0o077)
