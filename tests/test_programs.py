"""Typical fine-tuning programs for transformers' AST run unchanged with our classes, with the same results.

tests/programs has five, and none of them mentions ast_hf. Each runs twice in processes of its own, with transformers'
classes and with ours, from one checkpoint on a Hub and back to it. If torchcodec or audiomentations is missing,
standins/ replaces it; the last test runs everything with the real ones.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, TINY, TOKEN
from hub_server import Hub, HubServer
from huggingface_hub import ModelCard

pytestmark = pytest.mark.slow

#: Run the programs on a GPU, where another order of sums gives larger differences (`make test-gpu`).
ON_GPU = os.environ.get("AST_HF_TEST_GPU") == "1"
APART = 1e-2 if ON_GPU else 1e-4

PROGRAMS = Path(__file__).parent / "programs"
START, OTHER_HEAD = "lab/ast-start", "lab/ast-other-head"
#: The newest that loads with torch 2.13 for the CPU: later ones need CUDA's libraries.
TORCHCODEC = "torchcodec==0.13.0"
OPTIONS = (
    "--freeze_feature_encoder False --remove_unused_columns False --do_train --do_eval --eval_strategy epoch "
)
OPTIONS += (
    "--max_length_seconds 0.5 --learning_rate 1e-3 --num_train_epochs 2 --per_device_train_batch_size 5 "
)
OPTIONS += "--push_to_hub --hub_model_id"


@dataclass(frozen=True)
class Program:
    """One of the five programs.

    Attributes:
        data: repository of its data set, or "clips", the folder that prepare.py writes.
        how: argument of observer.py for a run with our classes.
        best_epoch: True if it sets `load_best_model_at_end`.
        apart: largest accepted difference from transformers' logits.
        stock_stops: end of the error that its last lines raise with transformers' classes.
    """

    name: str
    data: str
    how: str = "import"
    best_epoch: bool = False
    apart: float = APART
    stock_stops: str = ""

    def arguments(self, model: str, data: str, output: str, repo: str) -> list[str]:
        if self.name == "example_script":
            names = ["--model_name_or_path", model, "--dataset_name", data, "--output_dir", output]
            return [*names, *OPTIONS.split(), repo]
        return [model, data, output, "--hub", repo]


PROGRAM = {
    program.name: program
    for program in (
        Program("example_script", "lab/sounds"),
        Program("task_guide", "lab/minds14", best_epoch=True),
        Program("audio_course", "lab/gtzan", best_epoch=True),
        # Its extractor's mean is then a numpy.float32, which JSON cannot store.
        Program(
            "blog_recipe",
            "lab/esc50",
            how="names",
            best_epoch=True,
            stock_stops="float32 is not JSON serializable",
        ),
        Program("pytorch_loop", "clips", apart=0.02),  # two bits of bf16
    )
}
PACKAGES = {"stock": "transformers", "ours": "ast_hf"}
WAYS = tuple(PACKAGES)


@dataclass(frozen=True)
class Run:
    """A finished program: its process, its folder and repository, and the report of observer.py."""

    process: subprocess.CompletedProcess[str]
    output: Path
    repo: str
    report: dict[str, Any]

    @property
    def log(self) -> str:
        return self.process.stdout[-2000:] + self.process.stderr[-6000:]

    @property
    def done(self) -> bool:
        return self.process.returncode == 0

    def checkpoints(self) -> dict[int, Any]:
        """Return the logits that the model had in each of the Trainer's checkpoints, by step."""
        folders = {Path(folder): saved["output"] for folder, saved in self.report["model"].items()}
        inside = {folder: output for folder, output in folders.items() if folder.parent == self.output}
        return {int(folder.name.removeprefix("checkpoint-")): output for folder, output in inside.items()}

    def best_step(self) -> int:
        """Return the step of the Trainer's best checkpoint."""
        last = self.output / f"checkpoint-{max(self.checkpoints())}" / "trainer_state.json"
        return json.loads(last.read_text())["best_global_step"]


class Runner:
    """Runner of the programs: each once, two at a time, with a local Hub."""

    def __init__(self, root: Path, hub: Hub, pool: ThreadPoolExecutor) -> None:
        self.root, self.hub, self.pool = root, hub, pool
        self.started: dict[tuple[str, ...], Future[Run]] = {}
        (root / "standins").mkdir()
        for package, module in (
            ("torchcodec", "torchcodec.decoders"),
            ("audiomentations", "audiomentations"),
        ):
            if not imports(module):
                stand_in = next((PROGRAMS / "standins").glob(f"{package}*"))
                (shutil.copytree if stand_in.is_dir() else shutil.copy)(
                    stand_in, root / "standins" / stand_in.name
                )
        for metric in ("accuracy", "f1", "precision", "recall"):
            (root / metric).mkdir()
            shutil.copy(PROGRAMS / "metric.py", root / metric / f"{metric}.py")

    def python(self, *arguments: str, cache: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
        """Run a fresh process in `root`, where `evaluate` finds the metrics, with a cache of that name."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.endswith(("_OFFLINE", "HF_TOKEN"))
        }
        hub = {
            "HF_ENDPOINT": self.hub.url,
            "HF_TOKEN": token,
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
        }
        here = {"HF_HOME": str(self.root / f"cache-{cache}"), "PYTHONPATH": str(self.root / "standins")}
        processor = {"OMP_NUM_THREADS": "1"} | ({} if ON_GPU else {"CUDA_VISIBLE_DEVICES": ""})
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            env={**inherited, **hub, **here, **processor},
            cwd=self.root,
            check=False,
        )

    def start(self, name: str, way: str, model: str = START) -> Future[Run]:
        """Start a program with the classes of `way`, unless it was started before."""
        key = (name, way, model)
        if key not in self.started:
            self.started[key] = self.pool.submit(self._run, PROGRAM[name], way, model)
        return self.started[key]

    def _run(self, program: Program, way: str, model: str) -> Run:
        title = f"{program.name}-{way}" + ("-other-head" if model == OTHER_HEAD else "")
        report = self.root / f"{title}.json"
        output = self.root / title
        repo = f"user/{title.replace('_', '-')}"
        data = str(self.root / "clips") if program.data == "clips" else program.data
        how = "stock" if way == "stock" else program.how
        script = [str(PROGRAMS / "observer.py"), str(report), how, str(PROGRAMS / f"{program.name}.py")]
        process = self.python(*script, *program.arguments(model, data, str(output), repo), cache=title)
        (self.root / f"{title}.log").write_text(process.stdout + process.stderr)
        recorded = json.loads(report.read_text()) if report.exists() else {}
        return Run(process, output, repo, recorded)


def imports(module: str) -> bool:
    """Return True if a module can be imported: an installed torchcodec often cannot."""
    try:
        importlib.import_module(module)
    except Exception:
        return False
    return True


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Runner]:
    """Start a Hub with checkpoints and data, and the programs of the selected tests."""
    with HubServer("user", TOKEN) as server, ThreadPoolExecutor(max_workers=2) as pool:
        programs = Runner(tmp_path_factory.mktemp("programs"), server.hub, pool)
        prepare = (str(PROGRAMS / "prepare.py"), json.dumps(TINY), str(programs.root / "clips"))
        prepared = programs.python(*prepare, cache="start")
        assert prepared.returncode == 0, prepared.stderr[-4000:]
        for name in selected(request):
            for way in WAYS:
                programs.start(name, way)
        yield programs
        pool.shutdown(cancel_futures=True)


def selected(request: pytest.FixtureRequest) -> list[str]:
    """Return the programs of the selected tests."""
    items = [
        item for item in request.session.items if item.path == Path(__file__) and hasattr(item, "callspec")
    ]
    requested = {item.callspec.params["name"] for item in items if "name" in item.callspec.params}
    return [name for name in PROGRAM if name in requested]


@pytest.fixture(scope="module")
def reloaded(runner: Runner, request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    """Return the reports of reload.py on every folder and repository, with transformers' classes and with ours."""
    runs = [runner.start(name, way).result() for name in selected(request) for way in WAYS]
    places = [place for run in runs if run.done for place in (str(run.output), run.repo)]

    def load(way: str) -> dict[str, Any]:
        report = runner.root / f"reload-{way}.json"
        how = "stock" if way == "stock" else "import"
        arguments = (str(PROGRAMS / "reload.py"), str(report), how, *places)
        process = runner.python(*arguments, cache=f"reload-{way}", token="")
        assert process.returncode == 0, process.stderr[-4000:]
        return json.loads(report.read_text())

    return dict(zip(WAYS, runner.pool.map(load, WAYS), strict=True))


def gap(left: Any, right: Any) -> float:
    """Return the largest difference of two nested lists of one shape."""
    assert np.shape(left) == np.shape(right)
    return float(np.abs(np.subtract(left, right)).max())


every_program = pytest.mark.parametrize("name", PROGRAM)
either_way = pytest.mark.parametrize("way", WAYS)


@every_program
def test_no_program_mentions_ast_hf(name: str) -> None:
    assert "ast_hf" not in (PROGRAMS / f"{name}.py").read_text()


@either_way
@every_program
def test_programs_run_to_their_end(runner: Runner, name: str, way: str) -> None:
    run = runner.start(name, way).result()
    if way == "stock" and PROGRAM[name].stock_stops:
        assert run.process.stderr.rstrip().endswith(PROGRAM[name].stock_stops), run.log
    else:
        assert run.done, run.log
        assert "Traceback" not in run.process.stderr
    for kind in ("model", "feature_extractor"):
        assert run.report[kind][str(run.output)]["module"].split(".")[0] == PACKAGES[way]
    assert run.report["ast_hf"] == (way == "ours")


@every_program
def test_stock_and_ours_start_with_the_same_scores(runner: Runner, name: str) -> None:
    stock, ours = runs_of(runner, name)
    assert gap(stock.report["before"], ours.report["before"]) < APART
    features = [run.report["feature_extractor"][str(run.output)]["output"] for run in (stock, ours)]
    assert gap(*features) < 1e-4  # features are computed on the CPU


@every_program
def test_stock_and_ours_give_the_same_scores_at_every_step(runner: Runner, name: str) -> None:
    """Compares every forward pass, and every checkpoint of an epoch, until the model is saved."""
    stock, ours = runs_of(runner, name)
    count = ours.report["model"][str(ours.output)]["steps"]
    assert (
        len(ours.report["steps"]) >= len(stock.report["steps"]) >= count > 5
    )  # a pipeline may have more windows
    pairs = zip(stock.report["steps"][:count], ours.report["steps"][:count], strict=True)
    gaps = [gap(*step) for step in pairs]
    assert max(gaps) < PROGRAM[name].apart, gaps
    assert stock.checkpoints().keys() == ours.checkpoints().keys()
    for step, output in ours.checkpoints().items():
        assert gap(stock.checkpoints()[step], output) < PROGRAM[name].apart, step


@every_program
def test_the_saved_model_is_the_one_that_the_program_selects(runner: Runner, name: str) -> None:
    """The best epoch, if the program selects it; stock combines the best classifier with the last encoder."""
    stock, ours = runs_of(runner, name)
    end = ours.report["model"][str(ours.output)]["output"]
    assert gap(end, ours.report["before"]) > 0.1, "it has not learned"
    if PROGRAM[name].best_epoch:
        assert gap(end, ours.checkpoints()[ours.best_step()]) < 1e-6
    if not PROGRAM[name].best_epoch or ours.best_step() == max(ours.checkpoints()):
        assert gap(end, stock.report["model"][str(stock.output)]["output"]) < PROGRAM[name].apart


def runs_of(runner: Runner, name: str) -> list[Run]:
    """Return the runs of a program with transformers' classes and with ours."""
    stock, ours = (runner.start(name, way).result() for way in WAYS)
    assert stock.done or PROGRAM[name].stock_stops, stock.log
    assert ours.done, ours.log
    return [stock, ours]


@pytest.mark.parametrize("loader", WAYS)
@either_way
@every_program
def test_saved_models_reload_with_the_same_scores(
    runner: Runner, reloaded: dict[str, Any], name: str, way: str, loader: str
) -> None:
    """Loads from the folder and from the Hub, in processes with and without ast_hf."""
    run = runner.start(name, way).result()
    if way == "stock" and PROGRAM[name].stock_stops:
        pytest.skip(f"transformers cannot save this extractor: {PROGRAM[name].stock_stops}")
    assert run.done, run.log
    saved = {kind: run.report[kind][str(run.output)]["output"] for kind in ("model", "feature_extractor")}
    for place in (str(run.output), run.repo):
        loaded = reloaded[loader][place]
        assert {module.split(".")[0] for module in loaded["modules"]} == {PACKAGES[loader]}
        assert loaded["incomplete"] == {}
        assert loaded["id2label"] == {"0": "chirp", "1": "noise", "2": "tone"}
        assert gap(loaded["logits"], saved["model"]) < APART / 10
        assert gap(loaded["features"], saved["feature_extractor"]) < 1e-4
        assert loaded["pipeline"] == pytest.approx(loaded["scores"], abs=1e-4)
        if "ours" in (way, loader):  # transformers keeps the strings of label2id
            assert loaded["label2id"] == {"chirp": 0, "noise": 1, "tone": 2}


@every_program
def test_pushed_files_are_those_of_transformers(runner: Runner, name: str) -> None:
    stock, ours = runs_of(runner, name)
    theirs, pushed = (runner.hub.files(run.repo) for run in (stock, ours))
    assert {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"} <= pushed.keys()
    for path in ("config.json", "model.safetensors", "preprocessor_config.json"):
        assert pushed[path].content == (ours.output / path).read_bytes(), path
    further = {"preprocessor_config.json"} if PROGRAM[name].stock_stops else set()
    assert without_logs(pushed) == without_logs(theirs) | further


def without_logs(files: dict[str, Any]) -> set[str]:
    return {path for path in files if "tfevents" not in path}


#: Fields of the cards. A card without a Trainer has no others.
TRAINED = {
    "base_model": START,
    "license": "bsd-3-clause",
    "tags": ["generated_from_trainer"],
    "metrics": ["accuracy"],
}
CARD: dict[str, dict[str, Any]] = {
    "example_script": {**TRAINED, "tags": ["audio-classification", "generated_from_trainer"]},
    "task_guide": TRAINED,
    "audio_course": {**TRAINED, "datasets": ["lab/gtzan"]},
    "blog_recipe": {**TRAINED, "metrics": ["accuracy", "precision", "recall", "f1"]},
    "pytorch_loop": {"tags": []},
}


@every_program
def test_the_card_is_complete(runner: Runner, name: str) -> None:
    """The card equals the one that the same program writes with transformers' classes."""
    texts = [runner.hub.files(run.repo)["README.md"].content.decode() for run in runs_of(runner, name)]
    theirs, ours = (re.sub("-(stock|ours)", "", text) for text in texts)
    number = r"\d+\.\d+"
    assert re.sub(number, "N", ours) == re.sub(number, "N", theirs)
    read = [[float(metadata) for metadata in re.findall(number, text)] for text in (theirs, ours)]
    assert read[1] == pytest.approx(read[0], abs=1e-3)
    fields = ModelCard(ours).data.to_dict()
    expected = {"library_name": "transformers", **CARD[name]}
    assert {key: fields[key] for key in expected} == expected
    if name == "audio_course":
        (result,) = ModelCard(ours).data.eval_results
        metadata = (result.task_type, result.dataset_type, result.dataset_name, result.metric_type)
        assert metadata == ("audio-classification", "lab/gtzan", "GTZAN", "accuracy")


def test_a_head_for_other_labels_needs_no_flag(runner: Runner) -> None:
    """The guide passes no `ignore_mismatched_sizes`: transformers then refuses a checkpoint with another head."""
    ours, stock = (runner.start("task_guide", way, OTHER_HEAD) for way in ("ours", "stock"))
    run = ours.result()
    assert run.done, run.log
    assert np.shape(run.report["before"]) == (2, 3)
    assert "ignore_mismatched_sizes" in stock.result().process.stderr


def test_in_an_environment_with_torchcodec_and_audiomentations(tmp_path: Path) -> None:
    """Needs torchcodec as the decoder, and audiomentations, which needs an older soxr than ours."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("torchcodec needs FFmpeg's libraries: apt-get install ffmpeg")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    shared = [path for path in sys.path if path.endswith("site-packages")]
    (site / "shared.pth").write_text("\n".join([*shared, str(ROOT)]))
    pins = str(ROOT / "constraints-augment.txt")
    install = [python, "-m", "pip", "install", "--quiet", "-c", pins, "audiomentations", TORCHCODEC]
    installed = subprocess.run(install, capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"pip cannot install {TORCHCODEC} and audiomentations: {installed.stderr[-500:]}")
    loaded = subprocess.run(
        [python, "-c", "import torchcodec.decoders"], capture_output=True, text=True, check=False
    )
    if loaded.returncode:
        pytest.skip(f"{TORCHCODEC} does not load with this torch and FFmpeg: {loaded.stderr[-500:]}")
    options = [
        "-p",
        "no:cacheprovider",
        "-m",
        "slow",
        "-k",
        "not environment",
        f"--basetemp={tmp_path / 'runs'}",
    ]
    tested = subprocess.run(
        [python, "-m", "pytest", *options, str(Path(__file__))],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert tested.returncode == 0, tested.stdout[-4000:]
    assert not list((tmp_path / "runs").glob("programs*/standins/*"))
