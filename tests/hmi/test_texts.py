"""Texts of the page in all languages, and what its files may hold."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import rdx_fast
from rdx_fast.hmi.page_texts import TextsError, read_texts
from rdx_fast.hmi.serve import serve
from rdx_fast.station.handshake.codes import ErrorCode, ResultCode
from rdx_fast.station.records.changes import ACTIONS as OF_STATION
from support.page import station_file

HMI = Path(rdx_fast.__file__).parent / "hmi"
FILES = sorted((HMI / "static").iterdir())
SCRIPTS = [path for path in FILES if path.suffix == ".js"]
TEXTS = json.loads((HMI / "texts" / "texts.json").read_text(encoding="utf-8"))

LITERAL = re.compile(r'"([a-z_]+\.[\w. ]+)"')
TEMPLATE = re.compile(r"(?<![.\w])(?:t|has)\(`([^`]*)`")
PLACEHOLDER = re.compile(r"\{(\w+)\}")


def used() -> tuple[set[str], list[re.Pattern[str]]]:
    """Keys that the page names, and patterns of those that it composes."""
    keys: set[str] = set()
    patterns = []
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        keys |= {key for key in LITERAL.findall(text) if not key.endswith(".js")}
        for template in TEMPLATE.findall(text):
            parts = re.split(r"\$\{[^}]*\}", template)
            patterns.append(re.compile("[^.]+".join(map(re.escape, parts))))
    return keys, patterns


def test_languages_have_the_same_texts_and_placeholders() -> None:
    english = TEXTS["en"]
    assert set(TEXTS) == {"en", "de"}
    for texts in TEXTS.values():
        assert texts.keys() == english.keys()
        assert all(text.strip() == text != "" for text in texts.values())
        for key, text in texts.items():
            assert set(PLACEHOLDER.findall(text)) == set(PLACEHOLDER.findall(english[key])), key


def test_what_the_page_uses_is_what_there_is() -> None:
    keys, patterns = used()
    assert len(keys) > 100
    assert keys <= TEXTS["en"].keys(), keys - TEXTS["en"].keys()
    composed = [key for key in TEXTS["en"] if any(p.fullmatch(key) for p in patterns)]
    assert TEXTS["en"].keys() == keys | set(composed), TEXTS["en"].keys() - keys - set(composed)
    for pattern in patterns:
        assert any(pattern.fullmatch(key) for key in composed), pattern.pattern


@pytest.mark.parametrize(
    "code",
    [
        *(code.name for code in ErrorCode if code is not ErrorCode.NONE),
        "DRIFT",
        "STATION_AWAY",
        "RECORDS_UNREADABLE",
    ],
)
def test_each_alarm_has_cause_and_remedy(code: str) -> None:
    assert {f"alarm.{code}.cause", f"alarm.{code}.remedy"} <= TEXTS["en"].keys()


def test_without_scripts_the_page_says_so_in_each_language() -> None:
    text = (HMI / "static" / "index.html").read_text(encoding="utf-8")
    (said,) = re.findall(r"<noscript>(.*?)</noscript>", text, re.S)
    assert len(re.findall(r"<p[ >]", said)) == len(TEXTS)
    for language in TEXTS.keys() - {"en"}:  # the document's own
        assert f'<p lang="{language}">' in said


def test_codes_of_the_station_have_texts() -> None:
    wanted = {f"result.{code.name}" for code in ResultCode if code is not ResultCode.NONE}
    wanted |= {f"action.{action}" for action in OF_STATION}
    assert wanted <= TEXTS["en"].keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_hold_nothing_that_the_content_policy_refuses(path: Path) -> None:
    """No script or style within the page, nothing from elsewhere, no text parsed as HTML."""
    text = path.read_text(encoding="utf-8")
    addresses = set(re.findall(r"\bhttps?:[^\s\"'`)]*", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a name, never fetched
    if path.suffix == ".html":
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", text)
        assert all(body == "" for body in re.findall(r"<script[^>]*>(.*?)</script>", text, re.S))
        assert all(
            url.startswith("/static/") for url in re.findall(r'(?:src|href)="([^#"]+)', text)
        )
    if path.suffix == ".js":
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
            r"|DOMParser|setAttribute\(\"style\"|createObjectURL",
            text,
        )
        for module in re.findall(r'from "([^"]+)"', text):
            assert (path.parent / module).is_file()
    if path.suffix == ".css":
        assert not re.search(r"@import|url\(", text)


def test_every_file_is_reached_from_the_page() -> None:
    reached, found = set(), {"index.html"}
    while found - reached:
        name = (found - reached).pop()
        reached.add(name)
        text = (HMI / "static" / name).read_text(encoding="utf-8")
        found |= set(re.findall(r'"/static/([\w.]+)"', text))
        found |= set(re.findall(r'from "\./([\w.]+)"', text))
    assert reached == {path.name for path in FILES}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"fr": {"live.title": "En direct"}', "cannot be read"),
        ('{"pt_BR": {"live.title": "Ao vivo"}}', "'pt_BR' is no language"),
        ('{"fr": {"live.title": 3}}', "fr 'live.title' is no text"),
        ('["fr"]', "is not texts by language"),
    ],
)
def test_further_texts_that_cannot_be_read(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "more.json").write_text(content)
    with pytest.raises(TextsError, match=problem):
        read_texts(tmp_path)
    page = station_file(tmp_path, anonymous=True, texts=tmp_path)
    with pytest.raises(TextsError, match=problem):  # at the start
        serve(page, "line 1", pytest.fail)


def test_further_texts_go_before_those_of_the_package(tmp_path: Path) -> None:
    (tmp_path / "more.json").write_text('{"pt-BR": {"a": "b"}, "de": {"live.title": "Linie 1"}}')
    found = read_texts(tmp_path)
    assert (found["pt-BR"], found["de"]["live.title"]) == ({"a": "b"}, "Linie 1")
    assert found["de"]["live.part"] == TEXTS["de"]["live.part"]
