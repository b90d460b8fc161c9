from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
import torch

from rdx_fast import Detector
from rdx_fast.bench.generated import generated_bundle, generated_checkpoint
from rdx_fast.bench.measure import drawn_frame
from rdx_fast.bench.peers.agreement import Scored, agreement
from rdx_fast.bench.peers.process import Peer
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.engines.openvino.compilation import CORE


@pytest.fixture(scope="module")
def frames_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("frames") / "frames.npy"
    np.save(file, np.stack([drawn_frame(64, 96, seed) for seed in range(4)]))
    return file


@pytest.mark.parametrize("kind", ["rdx_fast", "openvino", "onnxruntime"])
def test_peers_score_alike(bundle: Bundle, frames_file: Path, tmp_path: Path, kind: str) -> None:
    precision = "fp32" if kind == "rdx_fast" else None
    peer = Peer(kind, kind, Path(sys.prefix), bundle.path, 1, tmp_path / "log", precision)
    try:
        peer.load(frames_file)
        answer = peer.score([2, 0])
        peer.save_map(tmp_path / "map.npy")
    finally:
        peer.close()
    with Detector(bundle.path, precision="fp32") as detector:
        wanted = detector.score(np.load(frames_file)[[2, 0]])
    assert wanted.anomaly_maps is not None
    if kind == "openvino":  # as it comes, which is not float32 on every CPU
        default = CORE.compile_model(CORE.read_model(bundle.network("fp32")), "CPU")
        runs_f32 = default.get_property("INFERENCE_PRECISION_HINT") == ov.Type.f32
        assert peer.executed == ("fp32" if runs_f32 else "bf16")
    else:
        assert peer.executed == "fp32"
    if peer.executed == "fp32":
        # PIL rounds resized frames to grey levels; these need no resizing.
        np.testing.assert_allclose(answer["scores"], wanted.scores, rtol=1e-4)
        np.testing.assert_allclose(np.load(tmp_path / "map.npy"), wanted.anomaly_maps[1], atol=1e-4)
    else:
        np.testing.assert_allclose(answer["scores"], wanted.scores, rtol=0.1)
    judged = np.array(answer["scores"]) > detector.threshold.value
    np.testing.assert_array_equal(judged, wanted.is_anomalous)
    assert len(answer["ms"]) == 2
    assert min(answer["ms"]) > 0
    assert peer.versions["numpy"] == np.__version__
    assert peer.peak_mb > 20


def test_peers_agree_as_far_as_their_precision_lets_them() -> None:
    defective = np.arange(40) >= 20
    scores = np.linspace(1, 2, 40)
    published = Scored("published", "fp32", scores, 1.5)

    def row(executed: str, given: Any, threshold: float = 1.5) -> dict[str, Any]:
        return agreement(Scored("peer", executed, given, threshold), published, defective)

    same = {"images": 40, "image_auroc": 1.0, "score_difference": 0.0, "verdicts_that_differ": 0}
    assert row("fp32", scores) == same
    with pytest.raises(RuntimeError, match="does not score as published"):
        row("fp32", 1.01 * scores)
    own_map = agreement(Scored("peer", "fp32", 1.01 * scores, 1.5), published, defective, 0.02)
    assert own_map["score_difference"] == pytest.approx(0.02 / 1.5, rel=1e-3)
    with pytest.raises(RuntimeError, match="does not score as published"):
        agreement(Scored("peer", "fp32", 1.02 * scores, 1.5), published, defective, 0.02)
    # Each is judged by a threshold of its own; few values are no fault of bfloat16's.
    coarse = np.round(scores * 8) / 8
    assert row("bf16", 1.5 * coarse, threshold=2.25)["verdicts_that_differ"] <= 3
    assert row("int8", 1.5 * scores)["verdicts_that_differ"] == 19
    with pytest.raises(RuntimeError, match="another AUROC"):
        row("int8", scores[::-1])
    two = Scored("peer", "bf16", np.repeat([1.0, 1.5], 20), 1.2)
    assert agreement(two, None, defective, trained=False)["images"] == 40
    with pytest.raises(RuntimeError, match="gives no scores"):
        agreement(two, None, defective)
    for useless in (np.ones(40), scores * np.nan):
        with pytest.raises(RuntimeError, match="gives no scores"):
            row("bf16", useless)
    other = agreement(Scored("other", "fp32", scores[::-1], 1.0), None, defective)
    assert other == {"images": 40, "image_auroc": 0.0}


@pytest.mark.slow
def test_published_peer_scores_alike(tmp_path: Path) -> None:
    bundle = generated_bundle("resnet18", "fp32", tmp_path)
    model = tmp_path / "published"
    model.mkdir()
    torch.save(generated_checkpoint("resnet18").network, model / "network.pt")
    (model / "backbone").write_text("resnet18")
    file = tmp_path / "frames.npy"
    np.save(file, drawn_frame(256, 256)[None])
    peer = Peer("published", "published", Path(sys.prefix), model, 2, tmp_path / "log")
    try:
        peer.load(file)
        answer = peer.score([0])
    finally:
        peer.close()
    with Detector(bundle.path) as detector:
        wanted = detector.score(np.load(file))
    assert answer["scores"] == pytest.approx(wanted.scores.tolist(), rel=1e-4)
    assert answer["stages"][0]["layer4"] > 0


def test_a_peer_that_dies_is_heard(bundle: Bundle, frames_file: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="No such file or directory"):
        Peer("broken", "openvino", Path(sys.prefix), tmp_path / "nothing", 1, tmp_path / "log")
    with pytest.raises(FileNotFoundError, match=r"setup\.sh"):
        Peer("nowhere", "openvino", tmp_path, bundle.path, 1, tmp_path / "log")
