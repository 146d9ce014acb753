"""Options of knowledge distillation."""

from __future__ import annotations

from dataclasses import dataclass

from huggingface_hub.dataclasses import validated_field

from ..errors import error
from ..strict_options import in_range, strict_options


@strict_options("distillation")
@dataclass(kw_only=True)
class DistillationOptions:
    """Options of learning from a teacher model. Without `teacher` and `logits`, nothing is distilled.

    Attributes:
        teacher: audio classifier, a folder or a name on the Hub: AST, wav2vec 2.0, HuBERT, Whisper, ...
        logits: file of `ast-hf evaluate --save-logits` with the logits of every training clip, instead of
            `teacher`.
        weight: share of the teacher in the loss, in [0, 1]; the rest is for the labels. 0 trains without a
            teacher, 1 without labels. The default is that of Schmid et al. for AudioSet (arXiv 2211.04772,
            `kd_lambda` in their `ex_audioset.py`).
        temperature: divides the logits of both models; the loss is multiplied by its square (Hinton et al.,
            arXiv 1503.02531). In 0.01..100. Single-label data only.
        hard: learn the class with the teacher's highest logit instead of its probabilities (DeiT's hard-label
            distillation, arXiv 2012.12877, section 4). Single-label data only.
    """

    teacher: str | None = None
    logits: str | None = None
    weight: float = validated_field(in_range(0.0, 1.0), default=0.9)
    temperature: float = validated_field(in_range(1e-2, 1e2), default=1.0)
    hard: bool = False

    @property
    def source(self) -> str:
        """The option that names the teacher: `"teacher"`, `"logits"` or `""`."""
        if self.teacher is not None:
            return "teacher"
        return "logits" if self.logits is not None else ""

    def check(self, where: str) -> None:
        """Raise E307 for options that contradict each other."""
        place = f"{where}: distillation"
        if self.teacher is not None and self.logits is not None:
            what = "is set, and so is teacher"
            raise error(
                "E307", where=f"{place}.logits", what=what, fix="use one of the two", detail="conflict"
            )
        defaults = DistillationOptions()
        for name in ("weight", "temperature", "hard"):
            if not self.source and getattr(self, name) != getattr(defaults, name):
                what = "is set, but there is no teacher"
                fix = "name a teacher, or a file of logits"
                raise error("E307", where=f"{place}.{name}", what=what, fix=fix, detail="conflict")
        if self.hard and self.temperature != defaults.temperature:
            what = "scales probabilities, but hard uses only the teacher's best class"
            fix = "leave one of them out"
            raise error("E307", where=f"{place}.temperature", what=what, fix=fix, detail="conflict")
