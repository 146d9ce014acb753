"""LoRA adapters through peft. Needs the extra `train`."""
