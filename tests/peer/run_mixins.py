"""Run transformers' common tests on its own AST or on ours, each in a process of its own.

    python tests/peer/run_mixins.py ours -k save_load     (or stock, or replaced; pytest gets the rest)

The tests are from the source distribution of the installed version. pip downloads it once, or it is in the folder
AST_HF_TRANSFORMERS_SDIST as transformers-<version>.tar.gz. Only its tests are unpacked, under build/peer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path, PurePosixPath

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
OURS = ("ours", "replaced")  # by our names, and by transformers' names after register(replace_names=True)
SIDES = ("stock", *OURS)


class NoSourceError(Exception):
    """Reason why the source distribution is not available."""


def unpacked_tests() -> Path:
    """Return a folder with the package `tests` of the installed transformers; create it if it is missing."""
    name = f"transformers-{version('transformers')}"
    folder = ROOT / "build" / "peer" / name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        source_folder = os.environ.get("AST_HF_TRANSFORMERS_SDIST")
        archive = Path(source_folder) / f"{name}.tar.gz" if source_folder else _download(Path(temporary))
        unpacked = Path(temporary) / "unpacked"
        _unpack(archive, unpacked)
        unpacked.rename(folder)
    return folder


def _download(folder: Path) -> Path:
    """Fetch the source distribution with pip; raise NoSourceError if it cannot."""
    options = [
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-binary",
        ":all:",
        "--no-build-isolation",
    ]
    requirement = f"transformers=={version('transformers')}"
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        reason = (result.stderr.strip() or "no message").splitlines()[-1]
        raise NoSourceError(f"pip cannot fetch the source distribution of {requirement}: {reason}")
    return next(folder.glob("*.tar.gz"))


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the files directly in tests, and create two empty packages that they expect."""
    for package in (folder / "tests", folder / "src" / "transformers"):
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
    with tarfile.open(archive) as source:
        for member in source:
            parts = PurePosixPath(member.name).parts
            if member.isfile() and len(parts) == 3 and parts[1] == "tests" and parts[2].endswith(".py"):
                (folder / "tests" / parts[2]).write_bytes(source.extractfile(member).read())


def make_tiny_models(folder: Path) -> Path:
    """Write the stock checkpoint of a few kilobytes that PipelineTesterMixin loads, with its index."""
    import torch
    from transformers.models import audio_spectrogram_transformer as stock

    torch.manual_seed(0)
    config = stock.ASTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=40,
        frequency_stride=8,
        time_stride=8,
        num_mel_bins=32,
        max_length=64,
        id2label={0: "hum", 1: "click", 2: "hiss", 3: "ring"},
    )
    model = stock.ASTForAudioClassification(config)
    model.classifier.dense.weight.data.mul_(30)  # scores that differ in float16
    checkpoint = folder / config.model_type / "ASTForAudioClassification"
    model.save_pretrained(checkpoint)
    stock.ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(checkpoint)
    contents = {
        "ASTForAudioClassification": {"tokenizer_classes": [], "processor_classes": ["ASTFeatureExtractor"]}
    }
    (folder / "reports").mkdir()
    (folder / "reports" / "tiny_model_summary.json").write_text(json.dumps(contents))
    return folder


def start(
    side: str, tests: Path, models: Path, report: Path, options: list[str], printed: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start the tests on one side; they write `report`, and print to the file `printed` if it is set."""
    paths = [str(tests), str(HERE), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    settings = {
        "AST_HF_PEER": side,
        "AST_HF_PEER_REPORT": str(report),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "TRANSFORMERS_TINY_MODEL_PATH": str(models),
    }
    plain = [
        "-o",
        "addopts=",
        "-p",
        "recorder",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore::pytest.PytestUnknownMarkWarning",
    ]
    command = [sys.executable, "-m", "pytest", *plain, str(HERE / "mixin_tests.py"), *options]
    environment = {**os.environ, **settings}
    if printed is None:
        return subprocess.Popen(command, cwd=ROOT, env=environment)
    with printed.open("wb") as output:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("side", choices=SIDES)
    arguments, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        models = make_tiny_models(folder / "models")
        return start(arguments.side, unpacked_tests(), models, folder / "report.json", options).wait()


if __name__ == "__main__":
    sys.exit(main())
