"""Fine-tune AST on your own labelled audio, evaluate it, and optionally publish it on the Hub.

python examples/finetune.py --recipe examples/recipes/finetune.yaml --data my_clips/ \
    --base MIT/ast-finetuned-audioset-10-10-0.4593 --output_dir outputs/my_model --push_to_hub

On several GPUs: torchrun --nproc_per_node 4 examples/finetune.py ... (docs/how-to/train-on-many-gpus.md)
"""

import argparse
import json
import sys

import ast_hf  # noqa: F401 (the Auto classes and the pipeline give ast_hf's AST from here on)
from ast_hf.training import ClipInputs, finish, load_recipe, prepare


def read_options() -> argparse.Namespace:
    """The command line; whatever else a run has is in its recipe, and `--set` reaches all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="examples/recipes/finetune.yaml")
    parser.add_argument("--data", help="folder of label folders, a table, or a data set on the Hub")
    parser.add_argument("--base", help="AST checkpoint to start from: a folder or a name on the Hub")
    parser.add_argument("--vit", help="image transformer to start from instead")
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE")
    parser.add_argument(
        "--resume",
        "--resume_from_checkpoint",
        nargs="?",
        const=True,
        metavar="auto|hub|CHECKPOINT",
        help="go on from the newest whole checkpoint; auto: or start where there is none; hub: from the newest that "
        "a run sent to the Hub; or from the one named",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the finished model in the output folder")
    parser.add_argument("--push_to_hub", action="store_true")
    parser.add_argument("--hub_model_id", help="user/name on the Hub")
    return parser.parse_args()


def main() -> int:
    """Recipe -> data and model -> training -> evaluation and files -> Hub."""
    options = read_options()
    named = {"data.source": options.data, "model.base": options.base, "model.vit": options.vit}
    changes = [f"{option}={json.dumps(value)}" for option, value in named.items() if value]
    recipe = load_recipe(options.recipe, [*changes, *options.set])

    publishing = {"push_to_hub": options.push_to_hub, "hub_model_id": options.hub_model_id}
    run = prepare(recipe, options.output_dir, overwrite=options.overwrite, **publishing)
    if run.trainer.is_world_process_zero():  # of several processes one speaks
        clips = f"{len(run.train)} training clips" if isinstance(run.train, ClipInputs) else "a stream of clips"
        print(f"{clips}, {run.trainer.model.num_parameters():,} parameters")

    run.trainer.train(resume_from_checkpoint=options.resume)

    report = finish(run)  # evaluates, and writes weights, extractor, card, curves.png, results.json and recipe.yaml
    for split, values in report.results.items() if run.trainer.is_world_process_zero() else ():
        baseline = report.baseline.get(split)
        beside = f" (logistic regression: {baseline:.3f})" if baseline is not None else ""
        print(f"{split}: {report.metric} {values[report.metric]:.3f}{beside}")

    if run.trainer.is_world_process_zero():
        print(f"Checkpoint, results.json, curves and model card: {report.folder}")

    if run.trainer.args.push_to_hub:  # the option, or training.push_to_hub in the recipe
        pushed = run.trainer.push_to_hub(commit_message="Fine-tuned with ast_hf")
        if pushed is not None:
            print(f"Published: {pushed.url}")
    return 75 if run.trainer.unpublished else 0  # all is done and saved, but for the push; the command was printed


if __name__ == "__main__":
    sys.exit(main())
