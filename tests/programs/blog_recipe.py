"""Fine-tune AST on clips with augmentation and measured statistics, in the order of the common blog recipe.

python blog_recipe.py MODEL DATA OUT [--hub NAME]
"""

import argparse

import evaluate
import numpy as np
import torch
from audiomentations import (
    AddGaussianSNR,
    ClippingDistortion,
    Compose,
    Gain,
    GainTransition,
    PitchShift,
    TimeStretch,
)
from datasets import Audio, ClassLabel, load_dataset
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, Trainer, TrainingArguments

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("data")
parser.add_argument("output")
parser.add_argument("--hub")
args = parser.parse_args()

# Classes by name, in the order of their numbers
esc50 = load_dataset(args.data, split="train")
table = esc50.select_columns(["target", "category"]).to_pandas()
class_names = table.iloc[np.unique(table["target"], return_index=True)[1]]["category"].to_list()
esc50 = esc50.cast_column("target", ClassLabel(names=class_names))
esc50 = esc50.rename_column("target", "labels")
num_labels = len(np.unique(esc50["labels"]))

feature_extractor = ASTFeatureExtractor.from_pretrained(args.model)
model_input_name = feature_extractor.model_input_names[0]
SAMPLING_RATE = feature_extractor.sampling_rate


def preprocess_audio(batch):
    waveforms = [audio["array"] for audio in batch["input_values"]]
    inputs = feature_extractor(waveforms, sampling_rate=SAMPLING_RATE, return_tensors="pt")
    return {model_input_name: inputs.get(model_input_name), "labels": list(batch["labels"])}


dataset = esc50.cast_column("audio", Audio(sampling_rate=feature_extractor.sampling_rate))
dataset = dataset.rename_column("audio", "input_values")
dataset.set_transform(preprocess_audio, output_all_columns=False)
label2id = dataset.features["labels"]._str2int
dataset = dataset.train_test_split(test_size=0.25, shuffle=True, seed=0, stratify_by_column="labels")

augmentations = Compose(
    [
        AddGaussianSNR(min_snr_db=10, max_snr_db=20),
        Gain(min_gain_db=-6, max_gain_db=6),
        GainTransition(
            min_gain_db=-6, max_gain_db=6, min_duration=0.01, max_duration=0.3, duration_unit="fraction"
        ),
        ClippingDistortion(min_percentile_threshold=0, max_percentile_threshold=30, p=0.5),
        TimeStretch(min_rate=0.8, max_rate=1.2),
        PitchShift(min_semitones=-4, max_semitones=4),
    ],
    p=0.8,
    shuffle=True,
)


def preprocess_audio_with_transforms(batch):
    waveforms = [augmentations(audio["array"], sample_rate=SAMPLING_RATE) for audio in batch["input_values"]]
    inputs = feature_extractor(waveforms, sampling_rate=SAMPLING_RATE, return_tensors="pt")
    return {model_input_name: inputs.get(model_input_name), "labels": list(batch["labels"])}


# The statistics of this data set in place of AudioSet's
feature_extractor.do_normalize = False
mean, std = [], []
dataset["train"].set_transform(preprocess_audio, output_all_columns=False)
for i in range(len(dataset["train"])):
    features = dataset["train"][i][model_input_name]
    mean.append(torch.mean(features))
    std.append(torch.std(features))
feature_extractor.mean = np.mean(mean)
feature_extractor.std = np.mean(std)
feature_extractor.do_normalize = True
print(f"mean {feature_extractor.mean:.3f}, std {feature_extractor.std:.3f}")

dataset["train"].set_transform(preprocess_audio_with_transforms, output_all_columns=False)
dataset["test"].set_transform(preprocess_audio, output_all_columns=False)

config = ASTConfig.from_pretrained(args.model)
config.num_labels = num_labels
config.label2id = label2id
config.id2label = {v: k for k, v in label2id.items()}
model = ASTForAudioClassification.from_pretrained(args.model, config=config, ignore_mismatched_sizes=True)
model.init_weights()

training_args = TrainingArguments(
    output_dir=args.output,
    report_to="tensorboard",
    learning_rate=5e-4,
    push_to_hub=args.hub is not None,
    hub_model_id=args.hub,
    num_train_epochs=2,
    per_device_train_batch_size=8,
    eval_strategy="epoch",
    save_strategy="epoch",
    eval_steps=1,
    save_steps=1,
    load_best_model_at_end=True,
    metric_for_best_model="accuracy",
    logging_strategy="steps",
    logging_steps=20,
)

accuracy = evaluate.load("accuracy")
recall = evaluate.load("recall")
precision = evaluate.load("precision")
f1 = evaluate.load("f1")
AVERAGE = "macro" if config.num_labels > 2 else "binary"


def compute_metrics(eval_pred):
    predictions = np.argmax(eval_pred.predictions, axis=1)
    metrics = accuracy.compute(predictions=predictions, references=eval_pred.label_ids)
    for metric in (precision, recall, f1):
        score = metric.compute(predictions=predictions, references=eval_pred.label_ids, average=AVERAGE)
        metrics.update(score)
    return metrics


trainer = Trainer(
    model=model,
    args=training_args,
    train_dataset=dataset["train"],
    eval_dataset=dataset["test"],
    compute_metrics=compute_metrics,
)
trainer.train()

best = ASTForAudioClassification.from_pretrained(trainer.state.best_model_checkpoint)
best.eval()
with torch.no_grad():
    clip = dataset["test"][0]
    logits = best(clip[model_input_name][None]).logits
print(best.config.id2label[logits.argmax(-1).item()])

trainer.save_model(args.output)
if args.hub:
    trainer.push_to_hub()
feature_extractor.save_pretrained(args.output)
if args.hub:
    feature_extractor.push_to_hub(args.hub)
