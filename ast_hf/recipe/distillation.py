"""Options of knowledge distillation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(kw_only=True)
class DistillationOptions:
    """What a run learns from a teacher. Without `teacher` and `logits`, nothing.

    Attributes:
        teacher: audio classifier, a folder or a name on the Hub: AST, wav2vec 2.0, HuBERT, Whisper, ...
        logits: file of `ast-hf evaluate --save-logits` instead, with the logits of every training clip.
        weight: the teacher's part of the loss, in [0, 1]; the labels have the rest. 0 trains as without a teacher, 1
            without labels. 0.9 is what Schmid et al. distil AudioSet with (arXiv 2211.04772; 0.1 is left for the
            labels, `kd_lambda` in their `ex_audioset.py`).
        temperature: of Hinton et al. (arXiv 1503.02531): both models' logits are divided by it, and the loss is
            multiplied by its square. For clips of one label only.
        hard: learn the class that the teacher would choose instead of its probabilities (DeiT's hard-label
            distillation, arXiv 2012.12877, section 4). For clips of one label only.
    """

    teacher: str | None = None
    logits: str | None = None
    weight: float = 0.9
    temperature: float = 1.0
    hard: bool = False

    @property
    def source(self) -> str:
        """The option that names the teacher: `"teacher"`, `"logits"` or `""`."""
        return "teacher" if self.teacher is not None else "logits" if self.logits is not None else ""
