"""Upload a start checkpoint and data sets to the Hub of the tests, with transformers' own classes.

python prepare.py SIZES FOLDER    SIZES are the model's, as JSON; FOLDER gets the clips of the PyTorch loop.
"""

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np
import soundfile
import torch
from datasets import Audio, ClassLabel, Dataset
from huggingface_hub import HfApi, ModelCard
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

sizes = json.loads(sys.argv[1])
folder = Path(sys.argv[2])
SOUNDS = ("chirp", "noise", "tone")
api = HfApi()


def write_checkpoint(name, labels):
    """Write a tiny model with random weights and a classifier for `labels`."""
    torch.manual_seed(0)
    model = ASTForAudioClassification(
        ASTConfig(**sizes, num_labels=len(labels), id2label=dict(enumerate(labels)))
    )
    model.config.label2id = {label: number for number, label in enumerate(labels)}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    model.push_to_hub(name)
    extractor = ASTFeatureExtractor(num_mel_bins=sizes["num_mel_bins"], max_length=sizes["max_length"])
    extractor.push_to_hub(name)
    ModelCard("---\nlicense: bsd-3-clause\npipeline_tag: audio-classification\n---\n").push_to_hub(name)


def sound(kind, number, rate, shortest):
    """Return a clip of `shortest` to `shortest` + 0.7 s; the model's input is 0.65 s."""
    random = np.random.default_rng(10 * number + SOUNDS.index(kind))
    time = np.arange(int(rate * (shortest + 0.1 * number))) / rate
    shapes = {
        "tone": np.sin(2 * np.pi * (300 + 60 * number) * time),
        "chirp": np.sin(2 * np.pi * (200 + 900 * time) * time),
        "noise": random.standard_normal(len(time)) / 3,
    }
    return (0.3 * shapes[kind] + 0.005 * random.standard_normal(len(time))).astype(np.float32)


def every_clip(rate, shortest=0.4):
    """Yield class, number and wave file of each clip, alternating the classes."""
    for number in range(8):
        for kind in SOUNDS:
            file = io.BytesIO()
            soundfile.write(file, sound(kind, number, rate, shortest), rate, format="WAV")
            yield SOUNDS.index(kind), number, file.getvalue()


def publish(name, split, rows, label=None):
    """Upload one Parquet file, with the audio column as `datasets` stores it."""
    data = Dataset.from_dict({key: [row[key] for row in rows] for key in rows[0]}).cast_column(
        "audio", Audio()
    )
    if label:
        data = data.cast_column(label, ClassLabel(names=list(SOUNDS)))
    file = io.BytesIO()
    data.to_parquet(file)
    api.create_repo(name, repo_type="dataset", exist_ok=True)
    path = f"data/{split}-00000-of-00001.parquet"
    api.upload_file(path_or_fileobj=file.getvalue(), path_in_repo=path, repo_id=name, repo_type="dataset")


def audio(number, content):
    return {"path": f"{number}.wav", "bytes": content}


write_checkpoint("lab/ast-start", ["Speech", "Music", "Dog"])
write_checkpoint("lab/ast-other-head", ["Speech", "Music", "Dog", "Car", "Rain"])

rows = [{"audio": audio(number, wave), "label": kind} for kind, number, wave in every_clip(16_000)]
publish("lab/sounds", "train", rows[:15], "label")
publish("lab/sounds", "validation", rows[15:], "label")

text = {"transcription": "", "english_transcription": "", "lang_id": 0}
rows = [
    {"path": f"{number}.wav", "audio": audio(number, wave), **text, "intent_class": kind}
    for kind, number, wave in every_clip(8_000)
]
publish("lab/minds14", "train", rows, "intent_class")

# None is padded, as in GTZAN: transformers' extractor never returns a mask.
rows = [
    {"file": f"{number}.wav", "audio": audio(number, wave), "genre": kind}
    for kind, number, wave in every_clip(22_050, shortest=0.7)
]
publish("lab/gtzan", "train", rows, "genre")

rows = [
    {"filename": f"{number}.wav", "target": kind, "category": SOUNDS[kind], "audio": audio(number, wave)}
    for kind, number, wave in every_clip(44_100)
]
publish("lab/esc50", "train", rows)

folder.mkdir()
with (folder / "labels.csv").open("w") as file:
    table = csv.writer(file)
    table.writerow(["file", "label"])
    for kind, number, wave in every_clip(16_000):
        (folder / f"{SOUNDS[kind]}{number}.wav").write_bytes(wave)
        table.writerow([f"{SOUNDS[kind]}{number}.wav", SOUNDS[kind]])
