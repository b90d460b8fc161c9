"""A request that is answered with an error."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response


class Refused(Exception):
    """Answered as ``{"error": text, "code": code}``.

    Args:
        status: of HTTP, 400 to 499, or 503 for what can be done later
        code: short name of the reason, for programs
        text: the reason in English, and what to do
        headers: of the answer
    """

    def __init__(
        self, status: int, code: str, text: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(text)
        self.status, self.code, self.text, self.headers = status, code, text, headers

    def response(self) -> Response:
        """The answer."""
        content = {"error": self.text, "code": self.code}
        return JSONResponse(content, self.status, self.headers)


def not_found(what: str) -> Refused:
    """What was asked for does not exist."""
    return Refused(404, "not_found", f"there is no {what}")
