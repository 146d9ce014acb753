"""Load saved models in a new process and record their outputs: reload.py REPORT HOW NAME...

HOW is "stock", or "import", with `import ast_hf` first. A NAME is a folder or a repository.
"""

import json
import sys
from pathlib import Path

report_file, how, *names = sys.argv[1:]
if how != "stock":
    import ast_hf  # noqa: F401

import probe  # noqa: E402 (ast_hf is imported first, as users would)
import torch  # noqa: E402
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, pipeline  # noqa: E402


def load(name):
    """Return classes, labels, missing weights, logits, features and the pipeline's scores for the tests."""
    model, loading = AutoModelForAudioClassification.from_pretrained(name, output_loading_info=True)
    feature_extractor = AutoFeatureExtractor.from_pretrained(name)
    features = probe.features(feature_extractor)
    scores = torch.tensor(probe.logits(model, features)).softmax(-1)[0].tolist()
    listed = pipeline("audio-classification", model=name)({"raw": probe.clips()[0], "sampling_rate": 16_000})
    return {
        "modules": [type(model).__module__, type(feature_extractor).__module__],
        "id2label": model.config.id2label,
        "label2id": model.config.label2id,
        "incomplete": {kind: sorted(map(str, keys)) for kind, keys in loading.items() if keys},
        "logits": probe.logits(model),
        "features": features.tolist(),
        "scores": dict(zip(model.config.id2label.values(), scores, strict=True)),
        "pipeline": {entry["label"]: entry["score"] for entry in listed},
    }


report = {name: load(name) for name in names}
Path(report_file).write_text(json.dumps(report))
