"""Fine-tune an audio classifier from the command line, in the order of transformers' example script.

python example_script.py --model_name_or_path MODEL --dataset_name DATA --output_dir OUT --freeze_feature_encoder False
    --remove_unused_columns False --do_train --do_eval [--push_to_hub --hub_model_id NAME]
"""

import logging
import os
import sys
from dataclasses import dataclass, field
from random import randint

import datasets
import evaluate
import numpy as np
import transformers
from datasets import DatasetDict, load_dataset
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.utils import check_min_version
from transformers.utils.versions import require_version

logger = logging.getLogger(__name__)
check_min_version("5.5.0")
require_version("datasets>=1.14.0", "pip install -U datasets")


def random_part(waveform, seconds, rate=16000):
    length = round(rate * seconds)
    if len(waveform) <= length:
        return waveform
    start = randint(0, len(waveform) - length - 1)
    return waveform[start : start + length]


@dataclass
class DataArguments:
    dataset_name: str | None = field(default=None, metadata={"help": "Name or folder of the data set."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "Which of its configurations."})
    train_split_name: str = field(default="train", metadata={"help": "Split to train on."})
    eval_split_name: str = field(default="validation", metadata={"help": "Split to evaluate on."})
    audio_column_name: str = field(default="audio", metadata={"help": "Column of the clips."})
    label_column_name: str = field(default="label", metadata={"help": "Column of the classes."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on so many clips only."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Evaluate on so many clips only."})
    max_length_seconds: float = field(default=20, metadata={"help": "Train on random parts of this length."})


@dataclass
class ModelArguments:
    model_name_or_path: str = field(metadata={"help": "Name or folder of the checkpoint to start from."})
    config_name: str | None = field(default=None, metadata={"help": "Another configuration."})
    cache_dir: str | None = field(default=None, metadata={"help": "Where downloads go."})
    model_revision: str = field(default="main", metadata={"help": "Branch, tag or commit."})
    feature_extractor_name: str | None = field(default=None, metadata={"help": "Another feature extractor."})
    freeze_feature_encoder: bool = field(default=True, metadata={"help": "Freeze the waveform encoder."})
    attention_mask: bool = field(default=True, metadata={"help": "Ask the feature extractor for masks."})
    token: str | None = field(default=None, metadata={"help": "Token of the Hub."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code of the Hub."})
    ignore_mismatched_sizes: bool = field(default=False, metadata={"help": "Replace a head of another size."})


def main():  # noqa: C901 (as long as its model)
    parser = HfArgumentParser((ModelArguments, DataArguments, TrainingArguments))
    if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
        model_args, data_args, training_args = parser.parse_json_file(json_file=os.path.abspath(sys.argv[1]))  # noqa: PTH100
    else:
        model_args, data_args, training_args = parser.parse_args_into_dataclasses()

    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s: %(message)s", handlers=[logging.StreamHandler(sys.stdout)]
    )
    if training_args.should_log:
        transformers.utils.logging.set_verbosity_info()
    level = training_args.get_process_log_level()
    logger.setLevel(level)
    transformers.utils.logging.set_verbosity(level)
    transformers.utils.logging.enable_default_handler()
    transformers.utils.logging.enable_explicit_format()
    logger.warning(
        f"device {training_args.device}, {training_args.n_gpu} GPUs, half precision {training_args.fp16}"
    )
    logger.info(f"arguments {training_args}")
    set_seed(training_args.seed)

    raw_datasets = DatasetDict()
    for name, split in (("train", data_args.train_split_name), ("eval", data_args.eval_split_name)):
        raw_datasets[name] = load_dataset(
            data_args.dataset_name,
            data_args.dataset_config_name,
            split=split,
            token=model_args.token,
            trust_remote_code=model_args.trust_remote_code,
        )
    for column in (data_args.audio_column_name, data_args.label_column_name):
        if column not in raw_datasets["train"].column_names:
            raise ValueError(f"no column {column} among {', '.join(raw_datasets['train'].column_names)}")

    feature_extractor = AutoFeatureExtractor.from_pretrained(
        model_args.feature_extractor_name or model_args.model_name_or_path,
        return_attention_mask=model_args.attention_mask,
        cache_dir=model_args.cache_dir,
        revision=model_args.model_revision,
        token=model_args.token,
        trust_remote_code=model_args.trust_remote_code,
    )
    raw_datasets = raw_datasets.cast_column(
        data_args.audio_column_name, datasets.features.Audio(sampling_rate=feature_extractor.sampling_rate)
    )
    input_name = feature_extractor.model_input_names[0]

    def transform_train(batch):
        parts = []
        for audio in batch[data_args.audio_column_name]:
            part = random_part(audio["array"], data_args.max_length_seconds, feature_extractor.sampling_rate)
            parts.append(part)
        inputs = feature_extractor(parts, sampling_rate=feature_extractor.sampling_rate)
        return {input_name: inputs.get(input_name), "labels": list(batch[data_args.label_column_name])}

    def transform_eval(batch):
        waveforms = [audio["array"] for audio in batch[data_args.audio_column_name]]
        inputs = feature_extractor(waveforms, sampling_rate=feature_extractor.sampling_rate)
        return {input_name: inputs.get(input_name), "labels": list(batch[data_args.label_column_name])}

    labels = raw_datasets["train"].features[data_args.label_column_name].names
    label2id, id2label = {}, {}
    for number, label in enumerate(labels):
        label2id[label] = str(number)
        id2label[str(number)] = label

    metric = evaluate.load("accuracy", cache_dir=model_args.cache_dir)

    def compute_metrics(prediction):
        guesses = np.argmax(prediction.predictions, axis=1)
        return metric.compute(predictions=guesses, references=prediction.label_ids)

    config = AutoConfig.from_pretrained(
        model_args.config_name or model_args.model_name_or_path,
        num_labels=len(labels),
        label2id=label2id,
        id2label=id2label,
        finetuning_task="audio-classification",
        cache_dir=model_args.cache_dir,
        revision=model_args.model_revision,
        token=model_args.token,
        trust_remote_code=model_args.trust_remote_code,
    )
    model = AutoModelForAudioClassification.from_pretrained(
        model_args.model_name_or_path,
        from_tf=bool(".ckpt" in model_args.model_name_or_path),
        config=config,
        cache_dir=model_args.cache_dir,
        revision=model_args.model_revision,
        token=model_args.token,
        trust_remote_code=model_args.trust_remote_code,
        ignore_mismatched_sizes=model_args.ignore_mismatched_sizes,
    )
    if model_args.freeze_feature_encoder:
        model.freeze_feature_encoder()

    if training_args.do_train:
        if data_args.max_train_samples is not None:
            shuffled = raw_datasets["train"].shuffle(seed=training_args.seed)
            raw_datasets["train"] = shuffled.select(range(data_args.max_train_samples))
        raw_datasets["train"].set_transform(transform_train, output_all_columns=False)
    if training_args.do_eval:
        if data_args.max_eval_samples is not None:
            shuffled = raw_datasets["eval"].shuffle(seed=training_args.seed)
            raw_datasets["eval"] = shuffled.select(range(data_args.max_eval_samples))
        raw_datasets["eval"].set_transform(transform_eval, output_all_columns=False)

    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=raw_datasets["train"] if training_args.do_train else None,
        eval_dataset=raw_datasets["eval"] if training_args.do_eval else None,
        compute_metrics=compute_metrics,
        processing_class=feature_extractor,
    )
    if training_args.do_train:
        result = trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
        trainer.save_model()
        trainer.log_metrics("train", result.metrics)
        trainer.save_metrics("train", result.metrics)
        trainer.save_state()
    if training_args.do_eval:
        metrics = trainer.evaluate()
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)

    card = {
        "finetuned_from": model_args.model_name_or_path,
        "tasks": "audio-classification",
        "dataset": data_args.dataset_name,
        "tags": ["audio-classification"],
    }
    if training_args.push_to_hub:
        trainer.push_to_hub(**card)
    else:
        trainer.create_model_card(**card)


if __name__ == "__main__":
    main()
