"""A request that is answered with an error."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response


class Refused(Exception):
    """Answered as ``{"error": text, "code": code}``, with ``"facts"`` where there are some.

    Args:
        status: of HTTP, 400 to 499, or 503 for what can be done later
        code: short name of the reason, for programs
        text: the reason in English, and what to do
        headers: of the answer
        facts: values in the text, for the page's text of this code in another language
    """

    def __init__(
        self,
        status: int,
        code: str,
        text: str,
        headers: dict[str, str] | None = None,
        facts: dict[str, str | int] | None = None,
    ) -> None:
        super().__init__(text)
        self.status, self.code, self.text, self.headers = status, code, text, headers
        self.facts = facts or {}

    def response(self) -> Response:
        """The answer."""
        content: dict[str, object] = {"error": self.text, "code": self.code}
        if self.facts:
            content["facts"] = self.facts
        return JSONResponse(content, self.status, self.headers)


def not_found(what: str) -> Refused:
    """What was asked for does not exist."""
    return Refused(404, "not_found", f"there is no {what}")
