"""Fine-tune AST on your own labelled audio, evaluate it, and optionally publish it on the Hub.

python examples/finetune.py --recipe examples/recipes/finetune.yaml --data my_clips/ \
    --base MIT/ast-finetuned-audioset-10-10-0.4593 --output_dir outputs/my_model --push_to_hub

On several GPUs: torchrun --nproc_per_node 4 examples/finetune.py ... (docs/how-to/train-on-many-gpus.md)
"""

import argparse
import sys

import ast_hf  # noqa: F401 (makes the Auto classes and the pipeline return ast_hf's AST)
from ast_hf.commands.finetune import add_run_options, recipe_overrides, run_stoppable


def read_options() -> argparse.Namespace:
    """Parse the command line; all other options are in the recipe, and `--set` changes any of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--recipe",
        default="examples/recipes/finetune.yaml",
        help="YAML file (default: %(default)s)",
    )
    parser.add_argument("--output_dir", required=True, help="folder of the result")
    add_run_options(parser)
    parser.add_argument(
        "--dry_run", action="store_true", help="print what the run would do, and do not train"
    )
    return parser.parse_args()


def main() -> int:
    """Train by a recipe; for SIGTERM, SIGHUP or Ctrl-C save the last step, and print how to continue."""
    options = read_options()
    return run_stoppable(lambda: train(options), saves=not options.dry_run)


def train(options: argparse.Namespace) -> int:
    """Train by a recipe, evaluate, write the files, and publish them if requested."""
    from ast_hf.training import ClipInputs, finish, load_recipe, plan_run, prepare

    recipe = load_recipe(options.recipe, recipe_overrides(options))

    if options.dry_run:  # nothing is written; problems raise the errors of the run
        plan = plan_run(
            recipe,
            options.output_dir,
            resume_from_checkpoint=options.resume,
            push_to_hub=options.push_to_hub,
            hub_model_id=options.hub_model_id,
            overwrite=options.overwrite,
        )
        print("\n".join(plan.lines()))
        return 0

    publishing = {"push_to_hub": options.push_to_hub, "hub_model_id": options.hub_model_id}
    # your own augmentation and callbacks go here: augment=..., callbacks=[...] (docs/how-to/own-code.md)
    run = prepare(
        recipe,
        options.output_dir,
        overwrite=options.overwrite,
        resume_from_checkpoint=options.resume,
        **publishing,
    )
    if run.trainer.is_world_process_zero():
        is_split = isinstance(run.train, ClipInputs)
        clips = f"{len(run.train)} training clips" if is_split else "a stream of clips"
        print(f"{clips}, {run.trainer.model.num_parameters():,} parameters")

    run.trainer.train(resume_from_checkpoint=options.resume)

    # Evaluates, and writes weights, extractor, card, curves.png, results.json and recipe.yaml.
    report = finish(run)
    if run.trainer.is_world_process_zero():
        print("\n".join(report.verdict.text()))  # the first line compares with the baseline
        for split, values in report.results.items():
            baseline = report.baseline.get(split)
            comparison = f" (logistic regression: {baseline:.3f})" if baseline is not None else ""
            print(f"{split}: {report.metric} {values[report.metric]:.3f}{comparison}")
        print(f"Checkpoint, results.json, curves and model card: {report.folder}")

    if run.trainer.args.push_to_hub:  # the option, or training.push_to_hub in the recipe
        pushed = run.trainer.push_to_hub(commit_message="Fine-tuned with ast_hf")
        if pushed is not None:
            print(f"Published: {pushed.url}")
    return 75 if run.trainer.unpublished else 0  # 75: only the push failed; its command was printed


if __name__ == "__main__":
    sys.exit(main())
