"""`ast-hf demo | finetune | evaluate | classify | push | stats | convert | merge | info`.

Every heavy import stands inside the command that needs it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .errors import AstHfError

if TYPE_CHECKING:
    from .training import Recipe

DEMO_DATA, DEMO_RECIPE, BASE_RECIPE = (
    "examples/data/instruments",
    "examples/recipes/instruments.yaml",
    "examples/recipes/finetune.yaml",
)
#: What `--quick` changes: enough to see everything work, not enough to be good.
QUICK = ("training.num_train_epochs=35",)

#: Exit codes of sysexits.h: bad data; not done yet, try again. 130 is a shell's for Ctrl-C; 1 is a bug.
EXIT_DATA, EXIT_UNPUBLISHED, EXIT_INTERRUPTED = 65, 75, 130
#: Errors after which the same command may succeed: of the account and of the connection.
_UNPUBLISHED = ("E701", "E704")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    It is 0; 65 for bad input, where the message says what to do; 75 when all is done but what the Hub had to do, where
    the message has the command that finishes it; 130 when interrupted.
    """
    from .commands.console import complain, expected_error

    options = build_parser().parse_args(arguments)
    try:
        command: Callable[[argparse.Namespace], int | None] = options.command
        return command(options) or 0
    except KeyboardInterrupt as problem:
        complain(": ".join(["interrupted", *problem.args]))
        return EXIT_INTERRUPTED
    except Exception as problem:
        told = expected_error(problem)
        if told is None:
            raise
        complain(told)
        return EXIT_UNPUBLISHED if getattr(told, "code", "") in _UNPUBLISHED else EXIT_DATA


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    from .commands.console import CommandParser, ShowVersion

    parser = argparse.ArgumentParser(
        prog="ast-hf", description="Adapt, train and run the Audio Spectrogram Transformer (AST)."
    )
    parser.add_argument("--version", action=ShowVersion, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=CommandParser)
    for name, (add_options, command, text) in _COMMANDS.items():
        part = commands.add_parser(name, help=text, description=text)
        add_options(part)
        part.set_defaults(command=command)
    return parser


def _demo_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", default="outputs/demo", help="folder of the result (default: %(default)s)")
    parser.add_argument("--base", help="checkpoint to start from (folder or Hub name) instead of random weights")
    parser.add_argument("--quick", action="store_true", help="a short run: everything works, nothing is good")


def _demo(options: argparse.Namespace) -> None:
    from .commands.demo import run_demo

    overrides = [f"data.source={DEMO_DATA}", "data.eval_splits=[test, unseen_instrument]"]
    short = ["training.num_train_epochs=1"] if options.base else list(QUICK)
    overrides += short if options.quick else []
    overrides += [f"model.base={options.base}"] if options.base else []
    run_demo(BASE_RECIPE if options.base else DEMO_RECIPE, overrides, options.output)


def _finetune_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="YAML file, see examples/recipes")
    parser.add_argument("--data", help="folder, table, data set by name (esc50) or Hub name (data.source)")
    parser.add_argument("--base", help="AST checkpoint to start from, folder or Hub name (model.base)")
    parser.add_argument("--vit", help="image transformer to start from instead (model.vit)")
    parser.add_argument("--output", required=True, help="folder of the result")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="change any option of the recipe, e.g. training.learning_rate=1e-4; may be repeated",
    )
    parser.add_argument(
        "--resume",
        "--resume_from_checkpoint",
        nargs="?",
        const=True,
        metavar="auto|hub|CHECKPOINT",
        help="go on from the newest whole checkpoint; auto: or start where there is none; hub: from the newest that "
        "a run sent to the Hub; or from the one named",
    )
    parser.add_argument(
        "--folds",
        type=int,
        metavar="N",
        help="cross-validation: train once for each of N folds (of data.fold_column, or random), test on that fold",
    )
    parser.add_argument("--push_to_hub", action="store_true", help="publish the result on the Hub")
    parser.add_argument("--hub_model_id", help="its name there, user/name")
    parser.add_argument("--overwrite", action="store_true", help="replace the finished model in the output folder")


def _finetune(options: argparse.Namespace) -> int:
    from .commands.console import print_results, quiet_transformers
    from .processes import is_main_process
    from .training import finetune, load_recipe

    quiet_transformers()
    named = {"data.source": options.data, "model.base": options.base, "model.vit": options.vit}
    changes = [f"{option}={json.dumps(value)}" for option, value in named.items() if value]
    recipe = load_recipe(options.recipe, [*changes, *options.set])
    if options.folds is not None:
        _cross_validate(options, recipe)
        return 0
    try:
        report = finetune(
            recipe,
            options.output,
            resume_from_checkpoint=options.resume,
            push_to_hub=options.push_to_hub,
            hub_model_id=options.hub_model_id,
            overwrite=options.overwrite,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_what_is_left(options.output)) from None
    if is_main_process():
        print_results(report)
    return EXIT_UNPUBLISHED if report.unpublished else 0


def _what_is_left(output: str) -> str:
    """What an interrupted run can go on from."""
    from pathlib import Path

    from .training.checkpoints.sealing import checkpoints

    found = [path.name for path in checkpoints(Path(output))]
    return f"the same command with --resume auto goes on from {found[-1]}" if found else "no checkpoint was written yet"


def _push_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="what training or save_pretrained wrote, with a README.md")
    parser.add_argument("repo_id", metavar="user/name", help="its name on the Hub; made when it does not exist")
    parser.add_argument("--private", action="store_true", default=None, help="for a repository that only you see")
    parser.add_argument("--revision", help="branch to push to, made when it does not exist (default: main)")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request in a repository that exists")
    parser.add_argument("--message", default="Upload model with ast_hf", help="of the commit (default: %(default)s)")
    parser.add_argument(
        "--dry-run",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="send nothing: write what would be published, beside the folder or into FOLDER, and list it",
    )


def _push(options: argparse.Namespace) -> None:
    from pathlib import Path

    from .commands.console import quiet_transformers
    from .hub.publishing import check_full_name, dry_run_folder, publication_of, push_folder, write_publication

    quiet_transformers()
    if options.dry_run is not None:
        folder = Path(options.folder)
        check_full_name(options.repo_id)
        place = Path(options.dry_run) if options.dry_run else dry_run_folder(folder)
        publication = publication_of(folder, options.repo_id)
        write_publication(publication, place, folder)
        print("\n".join(publication.lines()))
        print(f"Nothing was sent; what {options.repo_id} would hold is in {place}")
        return
    done = push_folder(
        options.folder,
        options.repo_id,
        private=options.private,
        revision=options.revision,
        create_pr=options.create_pr,
        commit_message=options.message,
        tell=print,
    )
    print(done.url)


def _cross_validate(options: argparse.Namespace, recipe: Recipe) -> None:
    from .commands.console import print_folds
    from .errors import error
    from .processes import is_main_process
    from .training import cross_validate
    from .training.folds import NO_PUSH

    if options.push_to_hub or options.hub_model_id:
        what = f"cannot tell which of the {options.folds} models of --folds to publish"
        raise error("E307", where="--push_to_hub, --hub_model_id", what=what, fix=NO_PUSH)
    found = cross_validate(recipe, options.output, folds=options.folds, resume=options.resume, tell=print)
    if is_main_process():
        print_folds(found)


def _classify_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="folder or Hub name")
    parser.add_argument("files", nargs="+", help="audio files: WAV, FLAC, OGG, MP3, AIFF, ...")
    parser.add_argument("--top_k", type=int, default=3, help="labels per file (default: %(default)s)")


def _classify(options: argparse.Namespace) -> None:
    """Print the best labels of each file; a bad file is reported and the others still answered."""
    from tqdm.auto import tqdm

    from .commands.console import quiet_transformers

    quiet_transformers()
    classifier = _classify_with(options.checkpoint)
    problems = []
    for file in tqdm(options.files, unit="file", disable=len(options.files) < 5 or None):
        try:
            answer = classifier(file, top_k=options.top_k)
        except AstHfError as problem:
            problems.append(problem)
            continue
        best = "  ".join(f"{entry['label']} {entry['score']:.3f}" for entry in answer)
        tqdm.write(f"{file}\t{best}", file=sys.stdout)
    if problems:
        for earlier in problems[:-1]:
            print(earlier, file=sys.stderr)
        raise problems[-1]


def _classify_with(checkpoint: str) -> Any:
    """The pipeline of a checkpoint; raises E306 for what is none of an audio classifier."""
    from transformers import pipeline

    from .errors import error
    from .feature_extraction_ast import missing_extractor
    from .weights.checkpoints import check_folder

    check_folder(checkpoint)
    if reasons := missing_extractor(checkpoint):
        raise error("E306", where=repr(checkpoint), what=reasons[0], fix=reasons[1])
    try:
        return pipeline("audio-classification", model=checkpoint)
    except AstHfError:
        raise
    except ValueError as problem:
        what = f"cannot be read as an audio classifier ({' '.join(str(problem).split())[:160]})"
        fix = "name a folder with config.json, preprocessor_config.json and weights, or such a model on the Hub"
        raise error("E306", where=repr(checkpoint), what=what, fix=fix) from problem


def _convert_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="a .pth of the original repository or timm; or folder or Hub name of a ViT")
    parser.add_argument("destination", help="folder to make")
    parser.add_argument("--labels", help="file of class names: text, CSV (index,mid,display_name) or JSON")
    parser.add_argument("--data_set", help="audioset, esc50 or speech_commands_v2: names, statistics, length, task")
    parser.add_argument("--multi_label", action="store_true", default=None, help="clips may have several labels")
    parser.add_argument("--mean", type=float, help="mean of the training data's raw log-mel values")
    parser.add_argument("--std", type=float, help="their standard deviation")
    for name, text in _SIZES.items():
        parser.add_argument(f"--{name}", type=int, metavar="N", help=text)


_SIZES = {
    "max_length": "frames of the input",
    "num_mel_bins": "mel bins of the input",
    "frequency_stride": "step between patches along frequency",
    "time_stride": "step between patches along time",
    "num_attention_heads": "heads, where the width does not tell",
}


def _convert(options: argparse.Namespace) -> None:
    from .commands.console import quiet_transformers
    from .conversion.convert import Wishes, convert

    quiet_transformers()
    names = ("labels", "data_set", "multi_label", "mean", "std", *_SIZES)
    wishes = Wishes(**{name: getattr(options, name) for name in names})
    convert(options.source, options.destination, wishes, tell=print)


def _merge_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", help="folder or Hub name of an adapter (LoRA), such as outputs/my_model/adapter")
    parser.add_argument("destination", help="folder to make")
    parser.add_argument("--base", help="its base, folder or Hub name, where the adapter does not tell the right place")
    parser.add_argument("--labels", help="file of class names (text, CSV or JSON), for adapters of plain peft")
    parser.add_argument("--multi_label", action="store_true", default=None, help="clips may have several labels")


def _merge(options: argparse.Namespace) -> None:
    from .commands.console import quiet_transformers
    from .training import merge_adapter

    quiet_transformers()
    merge_adapter(
        options.adapter,
        options.destination,
        base=options.base,
        labels=options.labels,
        multi_label=options.multi_label,
        tell=print,
    )


_TRUTH = {"true": True, "false": False}

#: How labelled audio is read, where the usual names do not fit.
_READING = {
    "config_name": "configuration of a data set on the Hub, where it has several",
    "audio_root": "folder that a table's paths are relative to",
    "class_labels": "file of the classes in their order: CSV (index,mid,display_name) or text",
    "audio_column": "column of the paths or the audio",
    "label_column": "column of the labels",
    "split_column": "column that names each row's split",
    "label_separator": "what separates several labels of one clip in a table",
    "test_fold": "the fold that is the split test, of data with a column of folds",
    "fold_column": "that column",
    "clip_boundaries": "whether columns start and end are seconds within the file: true (default) or false",
}


def _reading_options(parser: argparse.ArgumentParser) -> None:
    for name, text in _READING.items():
        choices = tuple(_TRUTH) if name == "clip_boundaries" else None
        parser.add_argument(f"--{name}", help=text, choices=choices)


def _reading(options: argparse.Namespace) -> dict[str, Any]:
    given = {name: getattr(options, name) for name in _READING if getattr(options, name) is not None}
    if "clip_boundaries" in given:
        given["clip_boundaries"] = _TRUTH[given["clip_boundaries"]]
    return given


def _evaluate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoints", nargs="+", help="folders or Hub names; several are an ensemble as well")
    parser.add_argument("data", help="folder, table, data set by name (esc50) or Hub name of labelled audio")
    parser.add_argument("--split", default="test", help="what to evaluate on (default: %(default)s)")
    parser.add_argument("--output", default="outputs/evaluation", help="folder of the result (default: %(default)s)")
    parser.add_argument("--average", action="store_true", help="also evaluate and save the mean of the weights")
    parser.add_argument("--ensemble", action="store_true", help="also save the ensemble, to be pushed or loaded")
    parser.add_argument("--fit-on", metavar="SPLIT", help="fit temperature and thresholds on another split")
    parser.add_argument("--store", action="store_true", help="write what was fitted into the checkpoints' config.json")
    parser.add_argument("--save-logits", metavar="FILE", help="write the logits, as .safetensors")
    parser.add_argument("--batch_size", type=int, default=8, help="clips at a time (default: %(default)s)")
    _reading_options(parser)


def _evaluate(options: argparse.Namespace) -> None:
    from .commands.console import quiet_transformers
    from .training import evaluate_checkpoints

    quiet_transformers()
    evaluation = evaluate_checkpoints(
        options.checkpoints,
        options.data,
        output_dir=options.output,
        split=options.split,
        average=options.average,
        ensemble=options.ensemble,
        fit_on=options.fit_on,
        store=options.store,
        save_logits=options.save_logits,
        batch_size=options.batch_size,
        **_reading(options),
    )
    print(evaluation.table())


def _stats_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", help="folder, table, data set by name (esc50) or Hub name of labelled audio")
    parser.add_argument("--split", default="train", help="split to measure mean and std on (default: %(default)s)")
    parser.add_argument("--sampling_rate", type=int, default=16_000, help="in Hz (default: %(default)s)")
    parser.add_argument("--num_mel_bins", type=int, default=128, help="default: %(default)s")
    parser.add_argument("--max_length", type=int, default=1024, help="frames that count (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="also write the report as JSON")
    parser.add_argument("--streaming", action="store_true", help="read a data set on the Hub without keeping it here")
    _reading_options(parser)


def _stats(options: argparse.Namespace) -> None:
    from pathlib import Path

    from .commands.console import quiet_transformers
    from .data.option_spelling import NO_BOUNDARIES
    from .errors import error
    from .training import describe_data, find_data_set, load_audio_dataset

    quiet_transformers()
    arguments = {**find_data_set(options.data), **_reading(options)}
    arguments |= {"streaming": True} if options.streaming else {}
    report = describe_data(
        load_audio_dataset(**arguments, check_files=False),
        options.sampling_rate,
        train_split=options.split,
        num_mel_bins=options.num_mel_bins,
        max_length=options.max_length,
    )
    if options.json:
        Path(options.json).write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")
    for line in report.lines():
        print(line)
    if report.unreadable:
        first = report.unreadable[0]
        what = f"{len(report.unreadable)} files cannot be read, the first is {first.path!r}: {first.what}"
        bounded = any(finding.code == "E208" for finding in report.unreadable)
        fix = "repair or remove them" + (f"; correct start and end, or {NO_BOUNDARIES}" if bounded else "")
        raise error(first.code or "E201", where=f"row {first.row}", what=what, fix=fix)


def _info_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", nargs="?", help="folder or Hub name; without it, the environment is described")


def _info(options: argparse.Namespace) -> None:
    from .commands.info import describe_checkpoint, describe_environment

    lines = describe_checkpoint(options.checkpoint) if options.checkpoint else describe_environment()
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        print(f"{name:{width}}  {value}")


_COMMANDS = {
    "demo": (_demo_options, _demo, "train on the instrument recordings of the repository and show the result"),
    "finetune": (_finetune_options, _finetune, "train by a recipe on your own labelled audio"),
    "classify": (_classify_options, _classify, "print the labels of audio files"),
    "push": (_push_options, _push, "publish a model's folder on the Hub"),
    "evaluate": (_evaluate_options, _evaluate, "measure checkpoints, ensembles and averages on labelled audio"),
    "stats": (_stats_options, _stats, "tell what a data set holds: labels, lengths, damage, mean and std"),
    "convert": (_convert_options, _convert, "make a checkpoint from original, timm or image transformer weights"),
    "merge": (_merge_options, _merge, "add an adapter (LoRA) to its base: a plain checkpoint"),
    "info": (_info_options, _info, "describe a checkpoint, or this environment and what is wrong with it"),
}
