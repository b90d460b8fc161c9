"""Login, logout, passwords, and what the page must know to start."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from rdx_fast.hmi.access import (
    LOGIN_BODY,
    Access,
    ApiRoute,
    Call,
    cookie_name,
    get,
    login_route,
    post,
)
from rdx_fast.hmi.context import Context
from rdx_fast.hmi.page_texts import read_texts
from rdx_fast.hmi.refusal import Refused
from rdx_fast.hmi.sessions import Session
from rdx_fast.hmi.users import PasswordLengthError, User, is_user_name
from rdx_fast.station.records.entered import entered
from rdx_fast.station.records.store import RecordError

log = logging.getLogger(__name__)
_HASHED_AT_ONCE = 1  # passwords: each takes 32 MiB and a tenth of a second of a core


@dataclass(frozen=True, slots=True)
class LoginForm:
    """Attributes: name and password of a user."""

    user: str
    password: str

    def __post_init__(self) -> None:
        if len(self.user) > 64 or len(self.password) > 256:
            raise ValueError("user has more than 64 or password more than 256 characters")


@dataclass(frozen=True, slots=True)
class PasswordForm:
    """Attributes: the present password and the next one."""

    old: str
    new: str

    def __post_init__(self) -> None:
        if len(self.old) > 256:
            raise ValueError("old has more than 256 characters")


def routes(context: Context) -> list[ApiRoute]:
    """Routes of sessions and of texts."""
    api = _SessionApi(context)
    return [
        get("/api/texts", Access.OPEN, api.texts, renews=False),
        get("/api/session", Access.OPEN, api.session, renews=False),
        login_route("/api/login", api.login, LoginForm),
        post("/api/logout", Access.OPERATOR, api.logout),
        post("/api/password", Access.OPERATOR, api.password, PasswordForm, LOGIN_BODY),
    ]


class _SessionApi:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._hashing = asyncio.Semaphore(_HASHED_AT_ONCE)

    def texts(self, call: Call) -> object:
        """The page's texts by language."""
        return read_texts(self._context.hmi.texts)

    def session(self, call: Call) -> object:
        """Who is logged in, and what does not change while the page is open."""
        return self._described(call.session)

    async def login(self, call: Call, form: LoginForm) -> Response:
        """Begin a session."""
        context = self._context
        # Whatever else was typed goes into no log: a terminal would do what it says.
        name = form.user if is_user_name(form.user) else "?"
        user = await self._checked(call, name, form.password)
        if user is None:
            raise Refused(401, "wrong_login", "the name or the password is wrong")
        if call.session is not None:
            context.sessions.end(call.session)
        token, session = context.sessions.begin(user)
        await run_in_threadpool(self._note, "login", user.name, call.address)
        response = JSONResponse(self._described(session))
        response.set_cookie(
            cookie_name(context),
            token,
            secure=context.hmi.certificate is not None,
            httponly=True,
            samesite="strict",
        )
        return response

    def logout(self, call: Call) -> Response:
        """End the session."""
        assert call.session is not None
        self._context.sessions.end(call.session)
        self._note("logout", call.user, call.address)
        response = JSONResponse(self._described(None))
        response.delete_cookie(cookie_name(self._context), httponly=True, samesite="strict")
        return response

    async def password(self, call: Call, form: PasswordForm) -> object:
        """Change one's own password; one's other sessions end."""
        if await self._checked(call, call.user, form.old) is None:
            raise Refused(403, "wrong_password", "the old password is wrong")
        try:
            return await run_in_threadpool(self._changed_password, call, form.new)
        except PasswordLengthError as error:
            raise Refused(400, "password_length", str(error)) from None

    def _changed_password(self, call: Call, new: str) -> object:
        assert call.session is not None
        context, session, name = self._context, call.session, call.user
        facts = {"user": name, "changed": "password", "address": call.address}

        @contextmanager
        def noted(changed: User) -> Iterator[None]:
            with entered(
                context.changes,
                "user",
                name,
                {},
                facts,
                made=lambda: context.users.get(name) == changed,
            ):
                context.sessions.renew_user(session, changed)
                yield

        context.users.set_password(name, new, noted)
        return self._described(session)

    async def _checked(self, call: Call, name: str, password: str) -> User | None:
        """The user of this name and password; None if they are wrong. Raises ``Refused`` if they
        were too often."""
        limit = self._context.logins
        wait_s = limit.attempt(name, call.address)
        if wait_s > 0:
            seconds = str(math.ceil(wait_s))
            raise Refused(
                429,
                "too_many_logins",
                f"logins failed too often: wait {seconds} s",
                {"Retry-After": seconds},
                {"seconds": seconds},
            )
        async with self._hashing:  # others wait here and take no thread
            user = await run_in_threadpool(self._context.users.check, name, password)
        if user is None:
            await run_in_threadpool(self._note, "login refused", name, call.address)
        else:
            limit.succeeded(name, call.address)
        return user

    def _note(self, action: str, user: str, address: str) -> None:
        """Enter a login or logout. One that cannot be entered must not keep an engineer out who
        frees the disk."""
        try:
            self._context.changes.enter(action, user, {}, {"address": address})
        except RecordError:
            log.exception("a login or logout could not be entered in the log of changes")

    def _described(self, session: Session | None) -> dict[str, Any]:
        context, hmi = self._context, self._context.hmi
        told = session is not None or hmi.anonymous
        bundles = sorted(context.file.bundles.items()) if told else []
        return {
            "user": session and session.user.name,
            "role": session and session.user.role,
            "csrf": session and session.csrf,
            "expires_in_s": session and round(context.sessions.expires_in_s(session)),
            "anonymous": hmi.anonymous,
            "language": hmi.language,
            "reasons": {
                "good": hmi.good_reasons if told else (),
                "bad": hmi.bad_reasons if told else (),
            },
            "jobs": [{"id": job, "name": path.stem} for job, path in bundles],
            "station": context.name,
        }
