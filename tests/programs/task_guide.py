"""Fine-tune an intent classifier and use it, in the order of transformers' guide to audio classification.

python task_guide.py MODEL DATA OUT [--hub NAME]
"""

import argparse

from datasets import Audio, load_dataset

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("data")
parser.add_argument("output")
parser.add_argument("--hub")
args = parser.parse_args()

minds = load_dataset(args.data, split="train")
minds = minds.train_test_split(test_size=0.2)
print(minds)
minds = minds.remove_columns(["path", "transcription", "english_transcription", "lang_id"])

labels = minds["train"].features["intent_class"].names
label2id, id2label = {}, {}
for number, label in enumerate(labels):
    label2id[label] = str(number)
    id2label[str(number)] = label
print(id2label[str(2)])

from transformers import AutoFeatureExtractor  # noqa: E402 (notebooks import as they go)

feature_extractor = AutoFeatureExtractor.from_pretrained(args.model)
minds = minds.cast_column("audio", Audio(sampling_rate=16_000))
print(minds["train"][0])


def preprocess_function(examples):
    audio_arrays = [audio["array"] for audio in examples["audio"]]
    return feature_extractor(
        audio_arrays, sampling_rate=feature_extractor.sampling_rate, max_length=16000, truncation=True
    )


encoded = minds.map(preprocess_function, remove_columns="audio", batched=True)
encoded = encoded.rename_column("intent_class", "label")

import evaluate  # noqa: E402

accuracy = evaluate.load("accuracy")

import numpy as np  # noqa: E402


def compute_metrics(prediction):
    guesses = np.argmax(prediction.predictions, axis=1)
    return accuracy.compute(predictions=guesses, references=prediction.label_ids)


from transformers import AutoModelForAudioClassification, Trainer, TrainingArguments  # noqa: E402

num_labels = len(id2label)
model = AutoModelForAudioClassification.from_pretrained(
    args.model, num_labels=num_labels, label2id=label2id, id2label=id2label
)
training_args = TrainingArguments(
    output_dir=args.output,
    eval_strategy="epoch",
    save_strategy="epoch",
    learning_rate=1e-3,
    per_device_train_batch_size=4,
    gradient_accumulation_steps=2,
    per_device_eval_batch_size=4,
    num_train_epochs=2,
    warmup_steps=0.1,
    logging_steps=1,
    load_best_model_at_end=True,
    metric_for_best_model="accuracy",
    push_to_hub=args.hub is not None,
    hub_model_id=args.hub,
)
trainer = Trainer(
    model=model,
    args=training_args,
    train_dataset=encoded["train"],
    eval_dataset=encoded["test"],
    processing_class=feature_extractor,
    compute_metrics=compute_metrics,
)
trainer.train()
if args.hub:
    trainer.push_to_hub()
else:
    trainer.save_model()

dataset = load_dataset(args.data, split="train")
dataset = dataset.cast_column("audio", Audio(sampling_rate=16000))
sampling_rate = dataset.features["audio"].sampling_rate
waveform = dataset[0]["audio"]["array"]

from transformers import pipeline  # noqa: E402

classifier = pipeline("audio-classification", model=args.hub or args.output)
print(classifier(waveform))

feature_extractor = AutoFeatureExtractor.from_pretrained(args.hub or args.output)
inputs = feature_extractor(waveform, sampling_rate=sampling_rate, return_tensors="pt")

import torch  # noqa: E402

model = AutoModelForAudioClassification.from_pretrained(args.hub or args.output)
with torch.no_grad():
    logits = model(**inputs).logits
print(model.config.id2label[torch.argmax(logits).item()])
