"""Fine-tune a genre classifier, in the order of the fine-tuning unit of Hugging Face's audio course.

python audio_course.py MODEL DATA OUT [--hub NAME]
"""

import argparse

import evaluate
import numpy as np
import torch
from datasets import Audio, load_dataset
from transformers import (
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    Trainer,
    TrainingArguments,
    pipeline,
)

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("data")
parser.add_argument("output")
parser.add_argument("--hub")
args = parser.parse_args()

gtzan = load_dataset(args.data)
gtzan = gtzan["train"].train_test_split(seed=42, shuffle=True, test_size=0.2)
print(gtzan["train"][0])
id2label_fn = gtzan["train"].features["genre"].int2str
print(id2label_fn(gtzan["train"][0]["genre"]))

model_id = args.model
feature_extractor = AutoFeatureExtractor.from_pretrained(
    model_id, do_normalize=True, return_attention_mask=True
)
sampling_rate = feature_extractor.sampling_rate
gtzan = gtzan.cast_column("audio", Audio(sampling_rate=sampling_rate))

sample = gtzan["train"][0]["audio"]
print(f"mean {np.mean(sample['array']):.3}, variance {np.var(sample['array']):.3}")
inputs = feature_extractor(sample["array"], sampling_rate=sample["sampling_rate"])
print(f"keys {list(inputs.keys())}")
print(f"mean {np.mean(inputs['input_values']):.3}, variance {np.var(inputs['input_values']):.3}")

max_duration = 30.0


def preprocess_function(examples):
    audio_arrays = [audio["array"] for audio in examples["audio"]]
    return feature_extractor(
        audio_arrays,
        sampling_rate=feature_extractor.sampling_rate,
        max_length=int(feature_extractor.sampling_rate * max_duration),
        truncation=True,
        return_attention_mask=True,
    )


gtzan_encoded = gtzan.map(
    preprocess_function, remove_columns=["audio", "file"], batched=True, batch_size=100, num_proc=1
)
print(gtzan_encoded)
gtzan_encoded = gtzan_encoded.rename_column("genre", "label")

id2label = {str(i): id2label_fn(i) for i in range(len(gtzan_encoded["train"].features["label"].names))}
label2id = {v: k for k, v in id2label.items()}
print(id2label["2"])

num_labels = len(id2label)
model = AutoModelForAudioClassification.from_pretrained(
    model_id, num_labels=num_labels, label2id=label2id, id2label=id2label
)

model_name = model_id.split("/")[-1]
batch_size = 8
gradient_accumulation_steps = 1
num_train_epochs = 2
training_args = TrainingArguments(
    args.output,
    eval_strategy="epoch",
    save_strategy="epoch",
    learning_rate=1e-3,
    per_device_train_batch_size=batch_size,
    gradient_accumulation_steps=gradient_accumulation_steps,
    per_device_eval_batch_size=batch_size,
    num_train_epochs=num_train_epochs,
    warmup_steps=0.1,
    logging_steps=5,
    load_best_model_at_end=True,
    metric_for_best_model="accuracy",
    fp16=torch.cuda.is_available(),
    push_to_hub=args.hub is not None,
    hub_model_id=args.hub,
)

metric = evaluate.load("accuracy")


def compute_metrics(prediction):
    guesses = np.argmax(prediction.predictions, axis=1)
    return metric.compute(predictions=guesses, references=prediction.label_ids)


trainer = Trainer(
    model,
    training_args,
    train_dataset=gtzan_encoded["train"],
    eval_dataset=gtzan_encoded["test"],
    processing_class=feature_extractor,
    compute_metrics=compute_metrics,
)
trainer.train()

kwargs = {
    "dataset_tags": args.data,
    "dataset": "GTZAN",
    "model_name": f"{model_name}-finetuned-gtzan",
    "finetuned_from": model_id,
    "tasks": "audio-classification",
}
if args.hub:
    trainer.push_to_hub(**kwargs)
else:
    trainer.save_model()

pipe = pipeline("audio-classification", model=args.hub or args.output)
print(pipe({"array": sample["array"], "sampling_rate": sample["sampling_rate"]}))
