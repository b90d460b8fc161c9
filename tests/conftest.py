"""Shared fixtures. Nothing here imports torch but what needs it, when it is asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
# ``python -m pytest`` puts the checkout first on the path: test what is installed instead (which
# is the checkout after an editable install).
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != ROOT]
# Read by torch when it is imported: small networks train faster so, in less than a third of the
# processor's time, and to the same weights however many cores there are.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Read by rich and typer when they are imported: what commands print shall hold no colours.
os.environ.pop("FORCE_COLOR", None)
os.environ["_TYPER_FORCE_DISABLE_TERMINAL"] = "1"

import pytest  # noqa: E402

# Where an assertion fails in these, its values are shown, as in the tests themselves.
pytest.register_assert_rewrite("support")

from hypothesis import settings  # noqa: E402

from rdx_fast.bundle.bundle import Bundle, open_bundle  # noqa: E402
from rdx_fast.images import list_images, read_image  # noqa: E402
from rdx_fast.station import HandshakeConfig, RecordConfig, StationConfig  # noqa: E402
from support.checkout import GPU  # noqa: E402
from support.kept import kept  # noqa: E402
from support.scripted import ScriptedCamera  # noqa: E402
from support.trained import export_part, train_run, write_category  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

    from rdx_fast.training import Checkpoint

# See docs/development/testing.md. Tests that name a number of examples of their own scale it by the
# profile.
settings.register_profile("quick", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True)
settings.register_profile("search", max_examples=1000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

if not GPU:
    # Read when the kernels are imported: without a GPU they are interpreted.
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from support.scheduling import Scheduling

    return Scheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What strangers send to a station comes into the log, and need be no text: a worker that
    cannot pass it on would end."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not GPU:
        pytest.skip("no GPU to run on")


@pytest.fixture(scope="session")
def passing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for ``kept``, shared by all workers, that goes when they end."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "passing"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def store(pytestconfig: pytest.Config, passing: Path) -> Path:
    """A folder for ``kept`` in pytest's cache, if there is one: the next run finds it again."""
    cache = getattr(pytestconfig, "cache", None)
    return passing if cache is None else cache.mkdir("rdx_fast")


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("parts")
    write_category(root)
    return root


def _trained(method: str, store: Path, parts: Path) -> Path:
    return kept(store, f"trained-{method}", (".",), partial(train_run, method, parts)) / "run"


@pytest.fixture(scope="session")
def checkpoint(parts: Path, store: Path) -> Checkpoint:
    from rdx_fast.training import load_checkpoint

    return load_checkpoint(_trained("rd4ad", store, parts))


@pytest.fixture(scope="session")
def expert_checkpoint(parts: Path, store: Path) -> Checkpoint:
    from rdx_fast.training import load_checkpoint

    return load_checkpoint(_trained("rd-expert", store, parts))


@pytest.fixture(scope="session")
def exported_as(
    parts: Path, store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Bundle]:
    """Exports what was trained: a precision, and the method where it is not RD4AD, to a bundle of
    the test's own."""

    def export(precision: str, method: str = "rd4ad") -> Bundle:
        run = _trained(method, store, parts)
        make = partial(export_part, run, parts, precision)
        made = kept(store, f"exported-{method}-{precision}", (".",), make) / "part.rdx"
        copied = tmp_path_factory.mktemp("bundle") / "part.rdx"
        return open_bundle(Path(shutil.copytree(made, copied)))

    return export


@pytest.fixture(scope="session")
def bundle(exported_as: Callable[..., Bundle]) -> Bundle:
    """In float32 alone."""
    return exported_as("fp32")


@pytest.fixture(scope="session")
def whole_bundle(exported_as: Callable[..., Bundle]) -> Bundle:
    """With every network, as ``export`` writes it by default."""
    return exported_as("auto")


@pytest.fixture
def networks(request: pytest.FixtureRequest, store: Path, passing: Path, tmp_path: Path) -> Path:
    """A folder with the network of the test's ``method`` and ``backbone`` in every precision, see
    ``exported``. The large ones of slow tests are not kept: they are gigabytes."""
    from support import exported

    which = (request.node.callspec.params["method"], request.node.callspec.params["backbone"])
    place = passing if request.node.get_closest_marker("slow") else store
    sources = ("export", "models", "bundle/manifest.py")
    made = kept(place, "-".join(which), sources, partial(exported.export, *which))
    copied = tmp_path / "networks"
    shutil.copytree(made, copied, copy_function=os.symlink)
    return copied


@pytest.fixture(scope="session")
def kernels(store: Path) -> Path:
    """All kernels for all architectures. In a process of its own: this one interprets Triton."""

    def build(folder: Path) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
        environment["TRITON_CACHE_DIR"] = str(folder / "cache")  # compile, whatever was before
        command = [sys.executable, "-P", "-m", "rdx_fast.kernels.aot", str(folder / "kernels")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        shutil.rmtree(folder / "cache")

    return kept(store, "kernels", ("kernels",), build) / "kernels"


@pytest.fixture(scope="session")
def real_images() -> Path:
    """Real photographs and teacher weights, which the repository does not hold."""
    given = os.environ.get("RDX_FAST_TEST_DATA")
    if given is None:
        pytest.skip("RDX_FAST_TEST_DATA names no folder of real images")
    folder = Path(given).resolve()
    if not (folder / "data").is_dir():
        pytest.fail(f"RDX_FAST_TEST_DATA is {given}, which holds no folder 'data'")
    return folder


@pytest.fixture(scope="session")
def transistor(real_images: Path) -> Path:
    """A category of photographs."""
    return real_images / "data" / "mvtec_transistor_256"


@pytest.fixture(scope="session")
def transistor_bundles(
    transistor: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Bundle, Bundle]:
    """A network trained on it for a short while, in fp32 and in int8."""
    from rdx_fast.datasets import find_dataset
    from rdx_fast.export import export_bundle
    from rdx_fast.training import Recipe, train

    folder = tmp_path_factory.mktemp("transistor")
    good = find_dataset(transistor).train()
    checkpoint = train(Recipe(backbone="efficientnet_lite0", epochs=4), good, folder / "run")
    exact = export_bundle(checkpoint, good[:40], folder / "fp32.rdx", precision="fp32")
    return exact, export_bundle(checkpoint, good[:40], folder / "int8.rdx", precision="int8")


@pytest.fixture
def own_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine of the test's that has a ``pipeline`` gives it to the Detector itself."""
    from rdx_fast.pipelines import open_pipeline

    def opened(engine: Any, mapper: Any) -> Any:
        own = getattr(engine, "pipeline", None)
        return open_pipeline(engine, mapper) if own is None else own(mapper)

    monkeypatch.setattr("rdx_fast.applied_recipe.open_pipeline", opened)


@pytest.fixture
def camera(parts: Path) -> ScriptedCamera:
    """Of a station."""
    # The threshold was set from these: all of them pass.
    return ScriptedCamera(read_image(list_images(parts / "calibration")[0]))


@pytest.fixture
def config(tmp_path: Path) -> StationConfig:
    """Of a station that has time."""
    handshake = HandshakeConfig(deadline_ms=20_000, hang_ms=20_000, watchdog_ms=0)
    return StationConfig(
        handshake=handshake,
        records=RecordConfig(tmp_path / "records.sqlite", pictures=tmp_path / "pictures"),
        frame_timeout_ms=200,
    )
