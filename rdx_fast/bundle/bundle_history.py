"""What the history of a bundle states of it, and whether the bundle is what it states."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dacite

from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.bundle.history import ACTIONS, START, Change, read_history
from rdx_fast.bundle.manifest import Manifest
from rdx_fast.errors import BundleError
from rdx_fast.limits.limits import Limits, ThresholdSpec
from rdx_fast.recipe.recipe import stated

_WHOLE = ("export", "replace")  # entries that state all of a bundle
_LIMITS = "limits of "
# Parts of the manifest.
_STATED = ("input", "scales", "map", "networks", "recipe", "frames", "calibration")
_STATED_LATER = ("calibration",)  # which earlier histories lack


def bundle_history(bundle: Bundle) -> list[Change]:
    """The history of a bundle, the oldest change first; empty in a bundle of an earlier format.

    Raises:
        BundleError: it cannot be read, or its chain is broken
    """
    if bundle.manifest.history is None:
        return []
    try:
        text = (bundle.path / bundle.manifest.history).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{bundle.path}: its history cannot be read: {error}") from error
    return read_history(text, str(bundle.path))


def verify_bundle(bundle: Bundle) -> list[Change]:
    """Check that the history's chain is whole, and that it ends with what the bundle is.

    Returns:
        the history, the oldest change first; empty in a bundle of an earlier format

    Raises:
        BundleError: the chain is broken or lacks entries, or something that results depend on is
            not what it ends with
    """
    changes, manifest = bundle_history(bundle), bundle.manifest
    if manifest.history is None:
        return []
    whole = [number for number, change in enumerate(changes, 1) if change.action in _WHOLE]
    since = len(changes) - (whole[-1] if whole else 0)
    if not changes or since != manifest.revision:
        raise BundleError(
            f"{bundle.path}: the manifest states {manifest.revision} changes since the export and "
            f"the history has {since}: entries were removed or added"
        )
    ends_with, present = ending(changes), bundle_facts(manifest)
    if "files" not in ends_with:
        # Entries of the first version of histories state these alone, and the next change states
        # the rest. Nobody gets here by removing facts: that breaks the chain of the entries.
        present = {k: v for k, v in present.items() if k == "recipe" or k.startswith(_LIMITS)}
    for name in present | ends_with:
        if name in _STATED_LATER and name not in ends_with:
            continue
        if stated(ends_with.get(name)) != stated(present.get(name)):
            raise BundleError(
                f"{bundle.path}: {name} in the manifest are not what the history ends with: they "
                f"were changed without an entry"
            )
    return changes


def bundle_facts(manifest: Manifest) -> dict[str, Any]:
    """What the history states of a bundle, by name, as JSON has it: all that results depend on."""
    everything = asdict(manifest)
    facts: dict[str, Any] = {name: everything[name] for name in _STATED}
    facts |= {f"{_LIMITS}{e.label}": [asdict(of) for of in e.limits] for e in manifest.executions}
    facts["recipes of limits"] = {e.label: e.inspected_sha256 for e in manifest.executions}
    facts["files"] = {
        name: spec.sha256 for name, spec in manifest.files.items() if name != manifest.history
    }
    return dict(json.loads(json.dumps(facts)))


def ending(changes: Iterable[Change]) -> dict[str, Any]:
    """What a history ends with, by name."""
    facts: dict[str, Any] = {}
    for change in changes:
        facts = change.after if change.action in _WHOLE else facts | change.after
    return facts


def next_change(
    changes: list[Change], action: str, user: str, before: dict[str, Any], after: dict[str, Any]
) -> Change:
    """The entry of a change after ``changes``: what differs, and what no entry has stated yet."""
    assert action in ACTIONS
    known = ending(changes)
    names = [name for name in after if name not in known or before.get(name) != after[name]]
    return Change.now(
        user,
        action,
        {name: before[name] for name in names if name in before},
        {name: after[name] for name in names},
        changes[-1].sha256 if changes else START,
    )


def exported_history(path: Path, user: str, manifest: Manifest) -> str:
    """The history of a bundle that is exported to ``path``, as the text of its file.

    If a bundle is there, its history goes on. Raises ``BundleError`` if that one is damaged, or is
    not what its history ends with.
    """
    changes: list[Change] = []
    before: dict[str, Any] = {}
    if path.exists():
        replaced = open_bundle(path)
        changes = verify_bundle(replaced)
        before = {"created": replaced.manifest.created, "name": replaced.manifest.name}
        before |= bundle_facts(replaced.manifest)
    action = "replace" if before else "export"
    previous = changes[-1].sha256 if changes else START
    changes.append(Change.now(user, action, before, bundle_facts(manifest), previous))
    return "".join(change.line() for change in changes)


def what_changed(change: Change) -> str:
    """What an entry changed, on one line.

    Of limits the values before and after and how they came about, of files their checksums' first
    digits, of all else the names.
    """
    if change.action in _WHOLE:
        return "all"
    names = [name for name, fact in change.after.items() if change.before.get(name) != fact]
    limits = [
        _limits_changed(name, change.before.get(name, []), change.after[name])
        for name in names
        if name.startswith(_LIMITS)
    ]
    others = [name for name in names if not name.startswith(_LIMITS) and name != "files"]
    if "files" in names:
        old, new = change.before.get("files", {}), change.after["files"]
        others += [
            f"{name} ({sha256[:8]})" for name, sha256 in new.items() if old.get(name) != sha256
        ]
    return "; ".join([*limits, ", ".join(others)] if others else limits)


def _limits_changed(name: str, before: Any, after: Any) -> str:
    """The changed limits of an execution, such as ``lid NG above 1.4 -> 1.6 (new lamp)``."""
    try:
        old = {of.region: of for of in _limits(before)}
        new = _limits(after)
    except (dacite.DaciteError, ValueError, TypeError):
        return name  # written by another version
    told = []
    for of in new:
        was = old.get(of.region)
        kinds = {"OK below ": "ok_below", "NG above ": "ng_above"}
        if of.ok_below == of.ng_above and (was is None or was.ok_below == was.ng_above):
            kinds = {"": "ok_below"}
        for kind, attribute in kinds.items():
            present: ThresholdSpec = getattr(of, attribute)
            earlier: ThresholdSpec | None = getattr(was, attribute, None)
            if present != earlier:
                region = f"{of.named} " if of.named else ""
                values = f"{earlier.value:.6g} -> " if earlier else ""
                told.append(f"{region}{kind}{values}{present.value:.6g} ({_origin(present)})")
    return f"{name}: {', '.join(told)}" if told else name


def _limits(facts: Any) -> list[Limits]:
    return [dacite.from_dict(Limits, of, dacite.Config(strict=True)) for of in facts]


def _origin(threshold: ThresholdSpec) -> str:
    """How a limit came about, in words: see ``reason_and_promise``."""
    text, promised = reason_and_promise(threshold)
    return text if promised is None else f"{text}, promised {promised:.3%}"


def reason_and_promise(threshold: ThresholdSpec) -> tuple[str, float | None]:
    """How a limit came about: the reason and None, or the method and the share that it promises."""
    promised = threshold.expected_false_reject_rate
    if promised is None:
        return threshold.reason or threshold.method, None
    return threshold.method, promised
