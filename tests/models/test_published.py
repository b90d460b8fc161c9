"""Users' checkpoints of the published implementations."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from rdx_fast.errors import CheckpointError, WeightsError
from rdx_fast.images import list_images
from rdx_fast.models import from_published
from rdx_fast.training import Recipe, import_published, load_checkpoint, train
from support.checkout import DATA
from support.generated import generated_parts
from support.weights import Intruder

Parts = dict[str, dict[str, Tensor]]


@pytest.fixture(scope="module")
def published() -> Parts:
    return generated_parts(json.loads((DATA / "rd4ad_resnet18.json").read_text()))


@pytest.mark.parametrize("backbone", ["resnet34", "resnet50"])
def test_keys_of_the_other_backbones(backbone: str) -> None:
    keys = json.loads((DATA / f"rd4ad_{backbone}.json").read_text())
    network = from_published(generated_parts(keys), "rd4ad", backbone=backbone)
    assert not network.training
    with torch.no_grad():
        features = network(torch.zeros(1, 3, 64, 64))
    assert [m.shape for m in features.teacher] == [m.shape for m in features.student]


@pytest.mark.parametrize(
    "injection",
    ["plain", *(pytest.param(name, marks=pytest.mark.slow) for name in ("guided", "none"))],
)
def test_unused_gate_and_injection_may_be_there(injection: str) -> None:
    keys = json.loads((DATA / "urd_wide_resnet50_2.json").read_text())
    network = from_published(generated_parts(keys), "rd-expert", injection=injection)
    has_gate = any(".gate." in key for key in network.state_dict())
    assert has_gate == (injection == "guided")


def test_every_misfit_is_listed_at_once(published: Parts) -> None:
    broken = {part: dict(state) for part, state in published.items()}
    gone = [key for key in broken["decoder"] if key.startswith("layer1.")]
    for key in gone:
        del broken["decoder"][key]
    broken["bn"]["conv1.weight"] = torch.zeros(1, 2, 3, 3)
    surplus = [f"fuse_{i}.weight" for i in range(15)]
    broken["decoder"] |= {key: torch.zeros(1) for key in surplus}
    with pytest.raises(WeightsError) as caught:
        from_published(broken, "rd4ad", backbone="resnet18")
    message = str(caught.value)
    wanted = [f"decoder.{k}" for k in gone if not k.endswith("num_batches_tracked")]
    for key in [*wanted, *(f"decoder.{k}" for k in surplus)]:
        assert f"\n  {key}" in message
    assert "bn.conv1.weight: (1, 2, 3, 3) given, (128, 64, 3, 3) wanted" in message


def test_wrong_parts(published: Parts) -> None:
    with pytest.raises(WeightsError, match=r"wants the state dicts encoder, bn, decoder; given: b"):
        from_published({k: published[k] for k in ("bn", "decoder")}, "rd4ad", backbone="resnet18")
    with pytest.raises(WeightsError, match=r"wants the state dicts teacher, student"):
        from_published(published, "rd-expert", backbone="resnet18")
    with pytest.raises(WeightsError, match="not all are dicts of tensors"):
        from_published({**published, "bn": {"conv1.weight": 3}}, "rd4ad", backbone="resnet18")
    with pytest.raises(ValueError, match="unknown method 'rd5'"):
        from_published(published, "rd5")


def test_import_from_files_in_any_order(published: Parts, tmp_path: Path) -> None:
    recipe = Recipe(backbone="resnet18", image_size=(64, 64))
    both = {"bn": published["bn"], "decoder": published["decoder"], "epoch": 200}
    torch.save(both, tmp_path / "wres_bottle.pth")
    save_file(published["encoder"], tmp_path / "encoder.safetensors")
    files = [tmp_path / "encoder.safetensors", tmp_path / "wres_bottle.pth"]
    checkpoint = import_published(recipe, files, tmp_path / "run")
    again = import_published(recipe, files[::-1], tmp_path / "run2")
    loaded = load_checkpoint(tmp_path / "run")
    assert loaded.imported == ["encoder.safetensors", "wres_bottle.pth"]
    for key, value in from_published(published, "rd4ad", backbone="resnet18").state_dict().items():
        for other in (checkpoint, again, loaded):
            assert torch.equal(value, other.network[key])
    with pytest.raises(CheckpointError, match="already contains a run"):
        import_published(recipe, files, tmp_path / "run")
    with pytest.raises(WeightsError, match="contains bn, which another file already contains"):
        import_published(recipe, [files[1], files[1]], tmp_path / "run3")
    with pytest.raises(WeightsError, match="given: bn, decoder"):
        import_published(recipe, files[1:], tmp_path / "run3")
    assert not (tmp_path / "run3").exists()


def test_imported_run_is_not_trained_on(published: Parts, parts: Path, tmp_path: Path) -> None:
    torch.save(published, tmp_path / "all.pth")
    recipe = Recipe(backbone="resnet18", image_size=(64, 64))
    import_published(recipe, [tmp_path / "all.pth"], tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"was imported from all\.pth: it can be exported"):
        train(recipe, list_images(parts / "train" / "good"), tmp_path / "run", resume=True)


def test_files_that_will_not_do(published: Parts, tmp_path: Path) -> None:
    recipe = Recipe(backbone="resnet18")
    mark = tmp_path / "mark"
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"bn": Intruder(mark)}))
    torch.save({"bn": Intruder(mark)}, tmp_path / "zip.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    torch.save({"layer9.weight": torch.zeros(1)}, tmp_path / "strange.pth")
    for name, message in (
        ("evil.pth", "never run"),
        ("zip.pth", "never run"),
        ("list.pth", "contains a list"),
        ("none.pth", "contains epoch: wanted state dicts"),
        ("strange.pth", "first key is layer9"),
        ("missing.pth", "no weights file"),
    ):
        with pytest.raises(WeightsError, match=message):
            import_published(recipe, [tmp_path / name], tmp_path / "run")
    assert not mark.exists()
