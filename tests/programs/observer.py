"""Run a program unchanged and record its logits: observer.py REPORT HOW PROGRAM ARGUMENTS...

HOW is "stock"; "import", with `import ast_hf` first; or "names", with `ast_hf.register(replace_names=True)` first.
"""

import json
import random
import runpy
import sys
from functools import wraps
from pathlib import Path

report_file, how, program = sys.argv[1:4]
if how != "stock":
    import ast_hf

    if how == "names":
        ast_hf.register(replace_names=True)

import numpy as np  # noqa: E402 (ast_hf is imported first, as users would)
import probe  # noqa: E402
import torch  # noqa: E402
from transformers import PreTrainedModel  # noqa: E402
from transformers.feature_extraction_utils import FeatureExtractionMixin  # noqa: E402

#: before: logits of fixed noise at the program's first forward pass. steps: logits of each forward pass.
#: model, feature_extractor: saved objects by folder.
report = {"before": None, "steps": [], "model": {}, "feature_extractor": {}}
probing = False


def record_forward(module, inputs, output):
    """Record the logits of each forward pass of the program, and of fixed noise before the first."""
    global probing
    if probing or not isinstance(module, PreTrainedModel) or not hasattr(output, "logits"):
        return
    if report["before"] is None:
        probing = True
        report["before"] = probe.logits(module)
        probing = False
    report["steps"].append(output.logits.detach().float().cpu().tolist())


def recording(kind, measure):
    """Wrap `save_pretrained`: record the module of the class, the output on fixed input, and the steps so far."""

    def wrap(save):
        @wraps(save)
        def wrapped(self, save_directory, *args, **kwargs):
            global probing
            probing = True
            output = measure(self)
            probing = False
            folder = str(Path(save_directory).resolve())
            report[kind][folder] = {
                "module": type(self).__module__,
                "output": output,
                "steps": len(report["steps"]),
            }
            return save(self, save_directory, *args, **kwargs)

        return wrapped

    return wrap


torch.nn.modules.module.register_module_forward_hook(record_forward)
PreTrainedModel.save_pretrained = recording("model", probe.logits)(PreTrainedModel.save_pretrained)
FeatureExtractionMixin.save_pretrained = recording(
    "feature_extractor", lambda extractor: probe.features(extractor).tolist()
)(FeatureExtractionMixin.save_pretrained)
random.seed(0)
np.random.seed(0)
torch.manual_seed(0)
sys.argv = sys.argv[3:]
try:
    runpy.run_path(program, run_name="__main__")
finally:
    report["ast_hf"] = "ast_hf" in sys.modules
    Path(report_file).write_text(json.dumps(report))
