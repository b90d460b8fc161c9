from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from rdx_fast.errors import WeightsError
from rdx_fast.models import BACKBONES, RD4AD, load_teacher
from support.checkout import DATA
from support.generated import generated_input
from support.weights import Intruder, assert_student_mirrors_teacher


@pytest.mark.parametrize("name", list(BACKBONES))
def test_student_mirrors_teacher(name: str) -> None:
    with torch.device("meta"):  # shapes alone
        network = RD4AD(name)
        assert_student_mirrors_teacher(network, name)
    assert not any("layer4" in key or "blocks.11" in key for key in network.teacher.state_dict())


@pytest.mark.parametrize(
    ("name", "gflop"), [("wide_resnet50_2", 60.9), ("efficientnet_lite0", 1.87)]
)
def test_cost(name: str, gflop: float) -> None:
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        RD4AD(name).eval()(torch.zeros(1, 3, 256, 256))
    assert counter.get_total_flops() / 1e9 == pytest.approx(gflop, abs=0.05)


def test_teacher_stays_frozen() -> None:
    network = RD4AD("resnet18").train()
    before = {k: v.clone() for k, v in network.teacher.state_dict().items()}
    network(torch.randn(2, 3, 64, 64))
    assert not network.teacher.training
    assert network.student.training
    assert not any(p.requires_grad for p in network.teacher.parameters())
    assert all(torch.equal(v, before[k]) for k, v in network.teacher.state_dict().items())


def test_unknown_backbone() -> None:
    with pytest.raises(ValueError, match="unknown backbone 'resnet19': choose one of resnet18"):
        RD4AD("resnet19")


def test_lite0_teacher_from_its_package() -> None:
    teacher = BACKBONES["efficientnet_lite0"].make_teacher().eval()
    assert load_teacher(teacher, "efficientnet_lite0").startswith("efficientnet-lite0-")
    recorded = json.loads((DATA / "efficientnet_lite0.json").read_text())
    with torch.no_grad():
        maps = teacher(generated_input(recorded["input_seed"]))
    found = [
        {
            "mean": m.mean().item(),
            "deviation": m.std().item(),
            "first": m[0, 0, 0, 0].item(),
            "last": m[0, -1, -1, -1].item(),
        }
        for m in maps
    ]
    assert found == [pytest.approx(wanted, abs=1e-4) for wanted in recorded["efficientnet_lite0"]]


def test_weights_from_files(tmp_path: Path) -> None:
    source = RD4AD("resnet18").teacher.state_dict() | {"fc.bias": torch.zeros(5)}
    save_file(source, tmp_path / "w.safetensors")
    torch.save(source, tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        teacher = RD4AD("resnet18").teacher
        assert load_teacher(teacher, "resnet18", tmp_path / name) == name
        assert torch.equal(teacher.get_parameter("conv1.weight"), source["conv1.weight"])


def test_misfits_are_listed(tmp_path: Path) -> None:
    source = RD4AD("resnet18").teacher.state_dict()
    del source["bn1.weight"]
    source["conv1.weight"] = torch.zeros(64, 3, 3, 3)
    source["surplus"] = torch.zeros(1)
    save_file(source, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError) as caught:
        load_teacher(RD4AD("resnet18").teacher, "resnet18", tmp_path / "w.safetensors")
    for part in (r"bn1.weight", "(64, 3, 3, 3) given, (64, 3, 7, 7) wanted", "surplus"):
        assert part in str(caught.value)


def test_code_in_weights_is_never_run(tmp_path: Path) -> None:
    mark, file = tmp_path / "mark", tmp_path / "w.pth"
    file.write_bytes(pickle.dumps({"conv1.weight": Intruder(mark)}))
    torch.save({"conv1.weight": Intruder(mark)}, tmp_path / "zip.pth")
    for path in (file, tmp_path / "zip.pth"):
        with pytest.raises(WeightsError, match="never run"):
            load_teacher(RD4AD("resnet18").teacher, "resnet18", path)
    assert not mark.exists()


def test_unreadable_weights(tmp_path: Path) -> None:
    teacher = RD4AD("resnet18").teacher
    with pytest.raises(WeightsError, match="no weights file at"):
        load_teacher(teacher, "resnet18", tmp_path / "none.pth")
    for name in ("bad.safetensors", "bad.pth", "empty.pth"):
        (tmp_path / name).write_bytes(b"" if "empty" in name else b"not weights at all")
        with pytest.raises(WeightsError, match=name):
            load_teacher(teacher, "resnet18", tmp_path / name)


def test_no_network_says_which_file_to_put_where(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    # A proxy that refuses at once stands for a machine without a network.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(WeightsError) as caught:
        load_teacher(RD4AD("resnet18").teacher, "resnet18")
    message = str(caught.value)
    assert "https://download.pytorch.org/models/resnet18-f37072fd.pth" in message
    assert str(tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth") in message
    assert "--weights" in message


def test_checksum_in_the_name_is_verified(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"damaged")
    found = hashlib.sha256(b"damaged").hexdigest()[:8]
    with pytest.raises(WeightsError, match=f"begins {found}, its name says f37072fd"):
        load_teacher(RD4AD("resnet18").teacher, "resnet18")
