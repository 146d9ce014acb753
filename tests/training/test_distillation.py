"""Distillation: its loss, the inputs and labels of teachers, stored logits, and resumed runs."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
from conftest import TINY, largest_gap, randomise
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForAudioClassification,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
    pipeline,
)

from ast_hf import (
    ASTEnsembleForAudioClassification,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    AstHfError,
)
from ast_hf.evaluation.stored_logits import clip_digests, load_logits, store_logits
from ast_hf.inputs.collation import collate
from ast_hf.training import (
    Augmentation,
    ClipInputs,
    DistillationOptions,
    build_distillation,
    evaluate_checkpoints,
    load_audio_dataset,
    prepare,
)
from ast_hf.training.distillation import StoredView, distillation_loss, teacher_targets
from training.runs import Stop, checkpoint_digest, digest, recipe, sound
from training.teachers import LABELS, ast_teacher, names

SINGLE_LABEL, MULTI_LABEL = "single_label_classification", "multi_label_classification"
WAV2VEC2: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (16, 16),
    "conv_stride": (80, 4),
    "conv_kernel": (160, 8),
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 8,
    "layerdrop": 0.5,
}


def wav2vec2_teacher(folder: Path, labels: list[str] = LABELS) -> str:
    """Save a waveform model with another sampling rate."""
    model = randomise(Wav2Vec2ForSequenceClassification(Wav2Vec2Config(**WAV2VEC2, **names(labels))))
    with torch.no_grad():
        model.classifier.weight.mul_(10.0)
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(sampling_rate=22_050).save_pretrained(folder)
    return str(folder)


def whisper_teacher(folder: Path, seconds: int) -> str:
    """Save an encoder with a classifier and a fixed input length."""
    sizes = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    rest = {"decoder_layers": 1, "decoder_attention_heads": 2, "classifier_proj_size": 8, "vocab_size": 20}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    config = WhisperConfig(
        **sizes, **rest, **tokens, **names(LABELS), num_mel_bins=16, max_source_positions=50 * seconds
    )
    randomise(WhisperForAudioClassification(config)).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=16, chunk_length=seconds).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return eight noises and eight tones to train on, two of each to test on, 0.3 to 0.5 s. Read only."""
    root = tmp_path_factory.mktemp("clips")
    for split, count in (("train", 8), ("test", 2)):
        for kind in LABELS:
            (root / split / kind).mkdir(parents=True)
            for number in range(count):
                samples = sound(kind, number + 100 * (split == "test"))
                soundfile.write(root / split / kind / f"{number}.wav", samples, 16_000)
    return root


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return teachers by name; those with `turned` have the labels in reverse order. Read only."""
    root = tmp_path_factory.mktemp("teachers")
    made = {"ast": ast_teacher(root / "ast"), "ast turned": ast_teacher(root / "ast_turned", LABELS[::-1])}
    made["wav2vec2 turned"] = wav2vec2_teacher(root / "wav2vec2", LABELS[::-1])
    made["whisper"] = whisper_teacher(root / "whisper", 1)
    longer = ast_teacher(root / "longer", max_length=80)
    ensemble = ASTEnsembleForAudioClassification.from_members(
        [made["ast turned"], longer], problem_type=SINGLE_LABEL
    )
    ensemble.save_pretrained(root / "ensemble")
    return {**made, "ensemble turned": str(root / "ensemble")}


@pytest.fixture(scope="module")
def stored(clips: Path, teachers: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the AST teacher's logits of the training split. Read only."""
    folder = tmp_path_factory.mktemp("stored")
    file = folder / "logits.safetensors"
    evaluate_checkpoints([teachers["ast turned"]], clips, output_dir=folder, split="train", save_logits=file)
    return file


def extractor(max_length: int = 64) -> ASTFeatureExtractor:
    return ASTFeatureExtractor(num_mel_bins=32, max_length=max_length, mean=-4.0, std=3.0)


def taught(train: Any, student: ASTFeatureExtractor | None = None, **options: Any) -> Any:
    made = build_distillation(DistillationOptions(**options), train, student or extractor())
    assert made is not None
    return made


# ---------------------------------------------------------------- losses

LN3 = 1.0986122886681098
#: kind -> (teacher's logits, student's, options, loss, its gradient); worked out by hand from probabilities of 1/4, 1/2
#: and 3/4
BY_HAND = {
    # student 1/4 and 3/4 at temperature 2, teacher 1/2: KL = ln(4/3) / 2, times 4
    "soft": (SINGLE_LABEL, [0.0, 0.0], [0.0, 2 * LN3], {"temperature": 2.0}, 0.5753641449, [-0.5, 0.5]),
    "temperature 1": (SINGLE_LABEL, [0.0, LN3], [0.0, 0.0], {}, 0.1308120359, [0.25, -0.25]),
    "hard": (SINGLE_LABEL, [0.2, 0.1], [0.0, LN3], {"hard": True}, 1.3862943611, [-0.75, 0.75]),
    # ln 2, and -(ln(1/4) + 3 ln(3/4)) / 4
    "multi-label": (
        MULTI_LABEL,
        [LN3, -LN3],
        [0.0, -LN3],
        {},
        (0.6931471806 + 0.5623351446) / 2,
        [-0.125, 0.0],
    ),
}


@pytest.mark.parametrize(
    ("kind", "teacher", "student", "options", "loss", "gradient"), BY_HAND.values(), ids=BY_HAND
)
def test_loss_and_gradient_by_hand(
    kind: str, teacher: Any, student: Any, options: dict[str, Any], loss: float, gradient: Any
) -> None:
    targets = teacher_targets(torch.tensor([teacher, teacher]), kind, **options)
    logits = torch.tensor([student, student], requires_grad=True)
    value = distillation_loss(logits, targets, kind, temperature=options.get("temperature", 1.0))
    value.backward()
    assert value.item() == pytest.approx(loss, abs=1e-6)
    # mean of two clips
    assert logits.grad.tolist() == [pytest.approx([part / 2 for part in gradient], abs=1e-6)] * 2


@given(st.lists(st.floats(-30, 30), min_size=3, max_size=3), st.sampled_from([0.5, 1.0, 4.0]), st.booleans())
def test_matching_the_teacher_gives_no_gradient(
    values: list[float], temperature: float, several: bool
) -> None:
    kind = MULTI_LABEL if several else SINGLE_LABEL
    logits = torch.tensor([values], requires_grad=True)
    targets = teacher_targets(logits.detach(), kind, temperature=temperature)
    loss = distillation_loss(logits, targets, kind, temperature=temperature)
    loss.backward()
    assert logits.grad.abs().max() < 1e-4
    assert several or loss.item() == pytest.approx(0.0, abs=1e-4)


def test_weight_divides_the_loss_between_teacher_and_labels(clips: Path, stored: Path) -> None:
    made = taught(load_audio_dataset(clips)["train"], logits=str(stored), weight=0.75)
    logits = torch.tensor([[0.5, -0.5]])
    rows = [{"targets": torch.tensor([0.5, 0.5])}]
    of_teacher = distillation_loss(logits, torch.tensor([[0.5, 0.5]]), SINGLE_LABEL).item()
    assert made.loss(torch.tensor(2.0), logits, rows).item() == pytest.approx(0.25 * 2.0 + 0.75 * of_teacher)


# ---------------------------------------------------------------- inputs of a teacher


def teacher_input(waveform: np.ndarray, parts: Any) -> dict[str, Any]:
    return {"waveform": torch.tensor(waveform), "parts": parts}


def test_without_augmentation_the_teacher_gets_the_clip(clips: Path) -> None:
    split = load_audio_dataset(clips)["train"]
    # stretching needs more samples
    for augmentation in (None, Augmentation(), Augmentation(time_stretch=1.5)):
        inputs = ClipInputs(split, extractor(20), augmentation=augmentation, teacher=teacher_input)
        item = inputs[16 + 3]
        assert item["teacher"]["waveform"].numpy().tolist() == inputs.waveform(3)[: 400 + 19 * 160].tolist()
        assert item["teacher"]["parts"] == [(3, 1.0)]


def test_teacher_gets_the_same_mix(clips: Path) -> None:
    inputs = ClipInputs(
        load_audio_dataset(clips)["train"],
        extractor(),
        augmentation=Augmentation(mixup_probability=1.0),
        teacher=teacher_input,
    )
    student = ClipInputs(inputs.split, extractor(), augmentation=inputs.augmentation)
    for key in range(8):
        (_, share), (_, rest) = item_parts = inputs[key]["teacher"]["parts"]
        assert share + rest == pytest.approx(1.0)
        mixed = np.zeros(16_000, np.float32)
        for clip, part in item_parts:
            mixed[: len(inputs.waveform(clip))] += np.float32(part) * inputs.waveform(clip)
        waveform = inputs[key]["teacher"]["waveform"].numpy()
        assert waveform == pytest.approx(mixed[: len(waveform)], abs=1e-6)
        assert not mixed[len(waveform) :].any()
        assert torch.equal(inputs[key]["input_values"], inputs.processor.input_values(waveform))
        assert torch.equal(inputs[key]["input_values"], student[key]["input_values"])


def test_stored_targets_are_mixed_like_labels(clips: Path) -> None:
    """Stored logits that equal the labels give the labels as targets."""
    split = load_audio_dataset(clips)["train"]
    answers = torch.nn.functional.one_hot(torch.tensor(split["label"]), 2).float()
    inputs = ClipInputs(
        split,
        extractor(),
        augmentation=Augmentation(speed=1.3, mixup_probability=0.5),
        teacher=StoredView(answers),
    )
    items = [inputs[key] for key in range(32)]
    assert all(largest_gap(item["teacher"]["targets"], item["labels"]) < 1e-6 for item in items)
    assert sum(0 < item["labels"][0] < 1 for item in items) > 3


@pytest.mark.parametrize("name", ["ast turned", "wav2vec2 turned", "whisper", "ensemble turned"])
def test_teacher_targets_match_its_own_pipeline(clips: Path, teachers: dict[str, str], name: str) -> None:
    """Uses clips of many lengths in one batch, and a teacher with another label order."""
    split = load_audio_dataset(clips)["train"]
    made = taught(split, teacher=teachers[name], temperature=2.0)
    inputs = ClipInputs(
        split, extractor(), augmentation=Augmentation(), teacher=pickle.loads(pickle.dumps(made.view))
    )
    batch = collate([inputs[clip] for clip in (5, 2, 11, 5)])
    targets = made.targets(batch["teacher"])
    classifier = pipeline("audio-classification", model=teachers[name], top_k=None)
    rate = made.view.extractor.sampling_rate
    for clip, target in zip((5, 2, 11, 5), targets, strict=True):
        sample = soxr.resample(inputs.waveform(clip), 16_000, rate, quality="HQ")
        scores = {
            answer["label"]: answer["score"] for answer in classifier({"raw": sample, "sampling_rate": rate})
        }
        logits = torch.tensor([scores[label] for label in LABELS]).log()
        assert largest_gap(target, (logits / 2).softmax(dim=-1)) < 1e-5
    assert targets.std(dim=0).max() > 1e-4  # it differs between clips
    assert not targets.requires_grad


def test_teacher_runs_in_evaluation_mode_and_float32(
    teachers: dict[str, str], clips: Path, tmp_path: Path
) -> None:
    half = AutoModelForAudioClassification.from_pretrained(teachers["ast"], dtype=torch.float16)
    shutil.copytree(teachers["ast"], tmp_path / "half")
    half.save_pretrained(tmp_path / "half")
    model = taught(load_audio_dataset(clips)["train"], teacher=str(tmp_path / "half")).model
    assert type(model) is ASTForAudioClassification
    assert (model.training, model.dtype) == (False, torch.float32)
    assert not any(parameter.requires_grad for parameter in model.parameters())


# ---------------------------------------------------------------- runs


def plan(
    clips: Path, distillation: dict[str, Any], options: dict[str, Any] | None = None, **training: Any
) -> Any:
    return recipe(clips, {"distillation": distillation, **(options or {})}, **training)


def divergence(trainer: Any, clips: Path, distillation: Any) -> float:
    """Return the mean Kullback-Leibler divergence of a student from its teacher on unaugmented training clips."""
    inputs = ClipInputs(
        load_audio_dataset(clips)["train"],
        trainer.processing_class,
        augmentation=None,
        teacher=distillation.view,
    )
    batch = collate(list(inputs))
    with torch.no_grad():
        logits = trainer.model.eval()(batch["input_values"]).logits
        return distillation_loss(logits, distillation.targets(batch["teacher"]), SINGLE_LABEL).item()


@pytest.mark.parametrize("source", ["ast turned", "wav2vec2 turned", "stored"])
def test_student_approaches_its_teacher(
    clips: Path, teachers: dict[str, str], stored: Path, tmp_path: Path, source: str
) -> None:
    teacher = {"logits": str(stored)} if source == "stored" else {"teacher": teachers[source]}
    run = prepare(plan(clips, {**teacher, "weight": 1.0}, num_train_epochs=10, save_strategy="no"), tmp_path)
    before = divergence(run.trainer, clips, run.trainer.distillation)
    run.trainer.train()
    after = divergence(run.trainer, clips, run.trainer.distillation)
    assert before > 0.02
    assert after < before / 2


def test_with_weight_one_labels_are_ignored(clips: Path, stored: Path, tmp_path: Path) -> None:
    run = prepare(plan(clips, {"logits": str(stored), "weight": 1.0}), tmp_path)
    batch = collate([run.train[clip] for clip in range(6)])
    gradients = []
    for labels in (batch["labels"], 1 - batch["labels"]):
        run.trainer.model.zero_grad()
        run.trainer.compute_loss(run.trainer.model, {**batch, "labels": labels}).backward()
        gradients.append(run.trainer.model.classifier.dense.weight.grad.clone())
    assert largest_gap(*gradients) == 0.0
    assert gradients[0].abs().max() > 1e-4


def test_weight_zero_equals_training_without_a_teacher(
    clips: Path, teachers: dict[str, str], tmp_path: Path
) -> None:
    options = {
        "model": {"config": {**TINY, "hidden_dropout_prob": 0.1}},
        "augmentation": {"mixup_probability": 0.5},
    }
    alone = prepare(recipe(clips, options, num_train_epochs=1), tmp_path / "alone").trainer
    start = digest(alone.model.state_dict())
    alone.train()
    for weight in (0.0, 0.5):
        teacher = {"teacher": teachers["wav2vec2 turned"], "weight": weight}
        other = prepare(plan(clips, teacher, options, num_train_epochs=1), tmp_path / str(weight)).trainer
        # independent of random numbers that loading the teacher consumed
        assert digest(other.model.state_dict()) == start
        other.train()
        same = digest(other.model.state_dict()) == digest(alone.model.state_dict())
        assert same is (weight == 0.0)


@pytest.mark.parametrize(
    ("source", "workers"), [("stored", 0), pytest.param("wav2vec2", 2, marks=pytest.mark.slow)]
)
def test_resumed_run_equals_an_unbroken_one(
    clips: Path, teachers: dict[str, str], stored: Path, tmp_path: Path, source: str, workers: int
) -> None:
    """Uses a teacher that draws random numbers even in evaluation mode: wav2vec 2.0 with LayerDrop."""
    chosen = {"logits": str(stored)} if source == "stored" else {"teacher": teachers["wav2vec2 turned"]}
    options = {
        "model": {"config": {**TINY, "hidden_dropout_prob": 0.1}},
        "augmentation": {"speed": 1.3, "mixup_probability": 0.5, "time_masks": 1, "time_mask_width": 10},
        "patchout": {"time": 2, "unstructured": 3},
        "averaging_decay": 0.9,
    }
    saving = {
        "save_strategy": "steps",
        "save_steps": 3,
        "save_total_limit": None,
        "dataloader_num_workers": workers,
    }
    made = plan(clips, {**chosen, "temperature": 2.0}, options, num_train_epochs=2, **saving)
    unbroken = prepare(made, tmp_path / "unbroken").trainer
    unbroken.train()
    broken = prepare(made, tmp_path / "broken").trainer
    broken.add_callback(Stop(step=3))
    broken.train()
    resumed = prepare(made, tmp_path / "broken").trainer
    resumed.train(resume_from_checkpoint=True)
    assert digest(resumed.model.state_dict()) == digest(unbroken.model.state_dict())
    assert len({str(checkpoint_digest(folder)) for folder in tmp_path.glob("*/checkpoint-3")}) == 1


def test_teacher_runs_in_the_precision_of_the_run(
    clips: Path, teachers: dict[str, str], tmp_path: Path
) -> None:
    for bf16 in (False, True):
        run = prepare(
            plan(clips, {"teacher": teachers["ast"]}, max_steps=1, bf16=bf16, save_strategy="no"), tmp_path
        )
        seen: list[torch.dtype] = []
        layer = run.trainer.distillation.model.classifier.dense
        layer.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(output.dtype))
        run.trainer.train()
        assert seen == [torch.bfloat16 if bf16 else torch.float32]


def test_teacher_is_neither_trained_nor_saved(clips: Path, teachers: dict[str, str], tmp_path: Path) -> None:
    run = prepare(plan(clips, {"teacher": teachers["ast"]}, num_train_epochs=1), tmp_path / "taught")
    before = digest(run.trainer.distillation.model.state_dict())
    run.trainer.train()
    assert digest(run.trainer.distillation.model.state_dict()) == before
    optimised = {id(value) for group in run.trainer.optimizer.param_groups for value in group["params"]}
    assert optimised == {id(value) for value in run.trainer.model.parameters()}
    (folder,) = (tmp_path / "taught").glob("checkpoint-*")
    assert load_file(folder / "model.safetensors").keys() == run.trainer.model.state_dict().keys()


def test_evaluation_has_no_teacher(clips: Path, teachers: dict[str, str], tmp_path: Path) -> None:
    run = prepare(plan(clips, {"teacher": teachers["ast"]}), tmp_path)
    batch = collate(list(run.evaluation["test"]))
    assert "teacher" not in batch
    with torch.no_grad():
        plain = run.trainer.model.eval()(batch["input_values"], labels=batch["labels"]).loss.item()
    assert run.trainer.evaluate(run.evaluation["test"])["eval_loss"] == pytest.approx(plain, abs=1e-6)


def test_multi_label_distillation(clips: Path, tmp_path: Path) -> None:
    rows = [
        {"path": str(path), "labels": [path.parent.name] if number % 2 else LABELS}
        for number, path in enumerate(sorted(clips.glob("train/*/*.wav")))
    ]
    table = tmp_path / "tags.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)))
    teacher = ast_teacher(tmp_path / "teacher", LABELS[::-1], problem_type=MULTI_LABEL)
    run = prepare(plan(table, {"teacher": teacher, "weight": 1.0}, num_train_epochs=1), tmp_path / "run")
    batch = collate([run.train[clip] for clip in range(4)])
    targets = run.trainer.distillation.targets(batch["teacher"])
    logits = run.trainer.model.eval()(batch["input_values"]).logits
    expected = -(targets * logits.sigmoid().log() + (1 - targets) * (-logits).sigmoid().log()).mean()
    assert run.trainer.compute_loss(run.trainer.model, batch).item() == pytest.approx(
        expected.item(), abs=1e-5
    )
    run.trainer.train()
    for option in ({"temperature": 2.0}, {"hard": True}):
        with pytest.raises(AstHfError, match=rf"E307.*distillation\.{next(iter(option))}.*single-label"):
            prepare(plan(table, {"teacher": teacher, **option}), tmp_path / "no")


# ---------------------------------------------------------------- refused


def test_incompatible_teachers_are_refused(clips: Path, tmp_path: Path) -> None:
    split = load_audio_dataset(clips)["train"]
    short = ast_teacher(tmp_path / "short", max_length=48)
    Wav2Vec2Model(Wav2Vec2Config(**WAV2VEC2)).save_pretrained(tmp_path / "headless")
    headless = wav2vec2_teacher(tmp_path / "whole")
    shutil.copy(tmp_path / "headless" / "model.safetensors", tmp_path / "whole" / "model.safetensors")
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "words" / "model.safetensors").write_bytes(
        (tmp_path / "whole" / "model.safetensors").read_bytes()
    )
    for teacher, text in {
        ast_teacher(tmp_path / "more", [*LABELS, "owl"]): r"E307.*more'.*also has 'owl'.*id2label",
        ast_teacher(tmp_path / "other", ["noise", "owl"]): r"E307.*lacks 'tone' and also has 'owl'",
        ast_teacher(
            tmp_path / "tags", problem_type=MULTI_LABEL
        ): r"E307.*'multi_label_classification'.*same kind",
        short: r"E307.*takes 0\.495 s, the student 0\.655 s.*max_length to 48 or less",
        whisper_teacher(tmp_path / "whisper", 1): "",
        headless: r"E305.*has no 'classifier\.bias'.*random.*trained to classify",
        str(tmp_path / "nowhere"): r"E306.*nowhere.*does not exist",
        str(tmp_path / "words"): r"E306.*distillation\.teacher.*words.*audio classifier",
        "nobody/nothing": r"E306.*nobody/nothing.*audio classifier",
    }.items():
        if text:
            with pytest.raises(AstHfError, match=text):
                taught(split, teacher=teacher)
    assert taught(split, extractor(48), teacher=short).model is not None
    assert taught(split, extractor(98), teacher=str(tmp_path / "whisper")).model is not None
    with pytest.raises(AstHfError, match=r"E307.*takes 1\.000 s, the student 1\.005 s.*98 or less"):
        taught(split, extractor(99), teacher=str(tmp_path / "whisper"))


@pytest.mark.parametrize(
    ("distillation", "options", "text"),
    [
        ({"teacher": "a", "logits": "b.safetensors"}, {}, r"distillation\.logits: is set, and so is teacher"),
        ({"temperature": 2.0}, {}, r"distillation\.temperature: is set, but there is no teacher"),
        ({"weight": 1.5, "teacher": "a"}, {}, r"weight: 1\.5 is outside 0\.\.1"),
        ({"temperature": 0.0, "teacher": "a"}, {}, r"temperature: 0\.0 is outside"),
        ({"teacher": "a", "hard": True, "temperature": 2.0}, {}, r"distillation\.temperature.*hard"),
        (
            {"logits": "b.safetensors"},
            {"augmentation": {"random_crop": True}},
            r"distillation\.logits.*random_crop",
        ),
        (
            {"teacher": "a"},
            {"loss": "binary_cross_entropy"},
            r"distillation\.teacher.*'binary_cross_entropy'",
        ),
        ({"techer": "a"}, {}, r"techer: is not a recognised option.*'teacher'"),
    ],
)
def test_contradictory_recipes_are_refused(
    distillation: dict[str, Any], options: dict[str, Any], text: str
) -> None:
    with pytest.raises(AstHfError, match=f"E307.*{text}"):
        plan(Path("clips"), distillation, options)


def test_published_recipe_holds_no_local_paths(tmp_path: Path) -> None:
    written = plan(Path("clips"), {"teacher": str(tmp_path / "mine" / "teacher")}).to_dict()
    assert written["distillation"]["teacher"] == "teacher"


# ---------------------------------------------------------------- stored logits


def test_stored_logits_follow_a_data_set_that_was_moved(clips: Path, stored: Path, tmp_path: Path) -> None:
    shutil.copytree(clips, tmp_path / "moved")
    for number, file in enumerate(sorted((tmp_path / "moved" / "train").rglob("*.wav"))):
        file.rename(file.with_name(f"clip{(5 * number) % 16:02}.wav"))  # other names, in another order
    split = load_audio_dataset(tmp_path / "moved")["train"]
    made = taught(split, logits=str(stored))
    by_path = load_logits(stored, labels=LABELS)
    logits_by_digest = {
        bytes(digest): row for digest, row in zip(by_path.digests.numpy(), by_path.logits, strict=True)
    }
    expected = torch.stack([logits_by_digest[bytes(digest)] for digest in clip_digests(split).numpy()])
    assert torch.equal(made.view.targets, expected.softmax(dim=-1))
    original = load_audio_dataset(clips)["train"]
    first = made.view.targets[
        [row["audio"]["path"].endswith("noise/clip00.wav") for row in split].index(True)
    ]
    place = [row["audio"]["path"].endswith("noise/0.wav") for row in original].index(True)
    assert torch.equal(first, taught(original, logits=str(stored)).view.targets[place])


def test_logits_of_another_split_are_refused_though_its_clips_have_the_same_names(
    clips: Path, stored: Path
) -> None:
    with pytest.raises(
        AstHfError, match=r"E208.*for 0 of 4 clips, none for '.*test/noise/0\.wav'.*--split train"
    ):
        taught(load_audio_dataset(clips / "test")["train"], logits=str(stored))


def test_unfinished_or_foreign_logits_are_refused(clips: Path, stored: Path, tmp_path: Path) -> None:
    split = load_audio_dataset(clips)["train"]
    intact = load_logits(stored)
    file = tmp_path / "logits.safetensors"

    def write(rows: slice = slice(None), **changes: Any) -> str:
        content = {**intact._asdict(), **changes}
        logits, digests = content["logits"].numpy()[rows], content["digests"]
        digests = None if digests is None else digests[rows].clone()
        store_logits(
            file, logits, content["clips"][rows], content["labels"], content["problem_type"], digests
        )
        return str(file)

    assert torch.equal(
        taught(split, logits=write()).view.targets, taught(split, logits=str(stored)).view.targets
    )
    for change, text in (
        ({"rows": slice(0, 9)}, r"E208.*for 9 of 16 clips, none for"),
        ({"digests": None}, r"E208.*no digests of the clips.*again"),
        ({"labels": ["noise", "owl"]}, r"E208.*not requested: 'owl'"),
        ({"problem_type": MULTI_LABEL}, r"E307.*distillation\.logits.*multi_label"),
    ):
        with pytest.raises(AstHfError, match=text):
            taught(split, logits=write(**change))
    with pytest.raises(AstHfError, match=r"E306.*does not exist"):
        taught(split, logits=str(tmp_path / "none.safetensors"))
    tensors = load_file(stored)
    tensors["logits"][3, 1] = float("nan")
    with safe_open(stored, framework="pt") as read:
        save_file(tensors, file, metadata=read.metadata())
    with pytest.raises(AstHfError, match=r"E306.*NaN.*clip 3 of the training split"):
        taught(split, logits=str(file))


def test_digest_is_of_content_and_bounds(clips: Path, tmp_path: Path) -> None:
    from datasets import Dataset

    files = [clips / "train" / "noise" / name for name in ("0.wav", "1.wav")]
    shutil.copy(files[0], tmp_path / "copy.wav")
    audio: list[dict[str, Any]] = [
        {"path": str(path), "bytes": None} for path in (*files, tmp_path / "copy.wav", files[0], files[0])
    ]
    audio.append({"path": "elsewhere.wav", "bytes": files[0].read_bytes()})
    rows = {
        "audio": audio,
        "start": [None, None, None, 0, 0.1, None],
        "end": [None, None, None, 0.2, 0.2, None],
    }
    one, two, copy, part, later, embedded = map(bytes, clip_digests(Dataset.from_dict(rows)).numpy())
    assert one == copy == embedded
    assert len({one, two, part, later}) == 4


def test_nan_from_the_teacher_stops_the_run(clips: Path, teachers: dict[str, str], tmp_path: Path) -> None:
    run = prepare(plan(clips, {"teacher": teachers["ast"], "hard": True}), tmp_path)
    run.trainer.distillation.model.register_forward_hook(
        lambda module, inputs, output: type(output)(logits=output.logits * float("nan"))
    )
    with pytest.raises(AstHfError, match=r"E501.*teacher's logits"):
        run.trainer.train()
