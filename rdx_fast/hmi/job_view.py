"""What the page shows of a job's bundle. Only the manifest and what it names are read."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rdx_fast.bundle.bundle import Bundle, read_steadily
from rdx_fast.bundle.bundle_history import bundle_history, reason_and_promise, what_changed
from rdx_fast.bundle.manifest import Manifest
from rdx_fast.bundle.manifest_file import parse_manifest
from rdx_fast.bundle.versions import list_versions
from rdx_fast.limits.limits import ThresholdSpec, rates_of_parts
from rdx_fast.recipe.recipe import InspectionRecipe


def describe_job(job: int, path: Path) -> dict[str, Any]:
    """A job's bundle as JSON. Raises ``BundleError`` if it cannot be read."""
    return read_steadily(path, lambda content: _described(job, path, content))


def _described(job: int, path: Path, content: bytes) -> dict[str, Any]:
    manifest = parse_manifest(content.decode("utf-8", "replace"), str(path))
    recipe = manifest.recipe
    return {
        "job": job,
        "bundle": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "versions": [asdict(of) | {"path": of.path.name} for of in list_versions(path)],
        "recipe": {
            "frame_size": recipe.frame.size,
            "crop": recipe.frame.crop,
            "regions": describe_regions(recipe),
        },
        "limits": _limits(manifest),
        "stale": manifest.stale_executions(),
        "false_reject": promised(manifest),
        "history": [
            {
                "time": change.time,
                "user": change.user,
                "action": change.action,
                "after": {"changed": what_changed(change)},
            }
            for change in bundle_history(Bundle(path, manifest))
        ],
    }


def describe_regions(recipe: InspectionRecipe) -> list[dict[str, Any]]:
    """The regions of a recipe as JSON, in the order in which they are painted."""
    return [
        {"name": of.name, "kind": of.kind}
        | ({"mask": True} if of.polygon is None else {"polygon": of.polygon})
        for of in recipe.regions
    ]


def promised(manifest: Manifest) -> float | None:
    """The share of good parts that the present limits let be NG; None if no limits state it."""
    rates = [rates_of_parts([of.ng_above for of in e.limits]) for e in manifest.executions]
    return max((r.false_reject_rate for r in rates if r.false_reject_rate), default=None)


def present_limits(manifest: Manifest, region: str, executed: str) -> tuple[float, float] | None:
    """OK below and NG above of a region in an executed precision; None if it has none that hold."""
    stale = manifest.stale_executions()
    for e in manifest.executions:
        for of in e.limits:
            if (e.executed, of.region) == (executed, region) and e.label not in stale:
                return of.ok_below.value, of.ng_above.value
    return None


def _limits(manifest: Manifest) -> list[dict[str, Any]]:
    return [
        {
            "execution": e.label,
            "executed": e.executed,
            "region": of.region,
            "ok_below": of.ok_below.value,
            "ng_above": of.ng_above.value,
            "origin": {"ok": _origin(of.ok_below), "ng": _origin(of.ng_above)},
        }
        for e in manifest.executions
        for of in e.limits
    ]


def _origin(limit: ThresholdSpec) -> dict[str, Any]:
    text, promised = reason_and_promise(limit)
    return {"text": text, "promised": promised}
