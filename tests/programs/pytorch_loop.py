"""Fine-tune AST in a plain PyTorch loop: DataLoader, mixup with soft labels, mixed precision, clipped gradients.

python pytorch_loop.py MODEL DATA OUT [--hub NAME]    DATA is a folder of wave files and labels.csv (file,label)
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, random_split
from transformers import (
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    get_cosine_schedule_with_warmup,
)

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("data", type=Path)
parser.add_argument("output")
parser.add_argument("--hub")
args = parser.parse_args()

device = "cuda" if torch.cuda.is_available() else "cpu"
amp_dtype = torch.float16 if device == "cuda" else torch.bfloat16
torch.manual_seed(0)
rng = np.random.default_rng(0)


class Clips(Dataset):
    def __init__(self, folder):
        self.folder = folder
        with (folder / "labels.csv").open() as file:
            self.rows = list(csv.DictReader(file))
        self.classes = sorted({row["label"] for row in self.rows})

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        waveform, rate = soundfile.read(self.folder / self.rows[index]["file"], dtype="float32")
        return waveform, rate, self.classes.index(self.rows[index]["label"])


clips = Clips(args.data)
num_labels = len(clips.classes)
feature_extractor = AutoFeatureExtractor.from_pretrained(args.model)
model = AutoModelForAudioClassification.from_pretrained(
    args.model,
    num_labels=num_labels,
    id2label=dict(enumerate(clips.classes)),
    label2id={name: number for number, name in enumerate(clips.classes)},
    ignore_mismatched_sizes=True,
)
model.to(device)


def collate(batch):
    waveforms, rates, labels = zip(*batch, strict=True)
    inputs = feature_extractor(list(waveforms), sampling_rate=rates[0], return_tensors="pt")
    inputs["labels"] = torch.tensor(labels)
    return inputs


def mixup(values, labels, alpha=0.5):
    part = float(rng.beta(alpha, alpha))
    order = torch.from_numpy(rng.permutation(len(values)))
    targets = F.one_hot(labels, num_labels).float()
    return part * values + (1 - part) * values[order], part * targets + (1 - part) * targets[order]


train, test = random_split(clips, [0.75, 0.25], generator=torch.Generator().manual_seed(0))
shuffled = torch.Generator().manual_seed(0)
train_loader = DataLoader(train, batch_size=6, shuffle=True, collate_fn=collate, generator=shuffled)
test_loader = DataLoader(test, batch_size=6, collate_fn=collate)

epochs = 2
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
scheduler = get_cosine_schedule_with_warmup(optimizer, 1, epochs * len(train_loader))
scaler = torch.amp.GradScaler(device, enabled=device == "cuda")

for epoch in range(epochs):
    model.train()
    for batch in train_loader:
        values, targets = mixup(batch["input_values"], batch["labels"])
        optimizer.zero_grad()
        with torch.amp.autocast(device, dtype=amp_dtype):
            outputs = model(input_values=values.to(device))
            loss = F.cross_entropy(outputs.logits.float(), targets.to(device))
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()

    model.eval()
    right = 0
    with torch.no_grad():
        for batch in test_loader:
            batch = batch.to(device)
            outputs = model(**batch)
            right += (outputs.logits.argmax(-1) == batch["labels"]).sum().item()
    print(
        f"epoch {epoch}: loss {loss.item():.4f}, on test clips {outputs.loss.item():.4f}, right {right} of {len(test)}"
    )

model.save_pretrained(args.output)
feature_extractor.save_pretrained(args.output)
if args.hub:
    model.push_to_hub(args.hub)
    feature_extractor.push_to_hub(args.hub)
