"""Feature extraction: waveforms of any type and device to batches of normalised log-mel `input_values`."""

from __future__ import annotations

import functools
import inspect
import math
import warnings
import weakref
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature, FeatureExtractionMixin, SequenceFeatureExtractor
from transformers.utils import PaddingStrategy, TensorType

from .audio import as_samples, as_waveform
from .audio_formats import MAX_CHANNELS, MAX_RATE, MIN_RATE
from .clip_threads import for_each_clip
from .configuration_ast import MAX_FRAMES, ASTConfig, Geometry
from .device_features import as_float32, extremes, is_batched, log_mel_padded, padded, passes
from .downloads import verify_loaded
from .errors import (
    AstHfError,
    AstHfWarning,
    did_you_mean,
    error,
    nearest,
    shown,
    unreadable,
    warn_once,
    warning_text,
    wrong_type,
)
from .json_files import read_json
from .log_mel import frame_lengths, frames_to_seconds, num_frames, write_log_mel
from .scalars import is_finite_number, plain_scalar, plain_whole

#: Highest peak that cannot overflow float32's power spectrum: (400 samples x 2 x 1e12)^2 x a filter's width
#: is near 1e31, and float32 ends at 3e38.
MAX_PEAK = 1e12
#: Peak from which W202 warns; samples should be in [-1, 1].
LOUD_PEAK = 8.0

#: Mean and standard deviation of AudioSet's log-mel values (the original's `egs/audioset/run.sh`).
AUDIOSET_MEAN = -4.2677393
AUDIOSET_STD = 4.5689974

#: Largest mean and std, and inverse of the smallest std. Log-mel values are in -16..60, and features within
#: these limits cannot overflow a model in float32.
MAX_STATISTIC = 1e6

PADDING_CHOICES = ("max_length", "longest", True, "do_not_pad", False)
CHANNEL_CHOICES = (None, "batch", "first", "last")

#: A call's `max_length` counts samples, as in wav2vec2, if it is at least `SAMPLES_FROM` and more than
#: `SAMPLES_FACTOR` times the extractor's own. 8,000 frames are 80 s; ten times AudioSet's length is 102 s.
SAMPLES_FROM = 8_000
SAMPLES_FACTOR = 10


def _whole(low: int, high: float = math.inf) -> tuple[Any, str]:
    def test(value: Any) -> bool:
        integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        return integer and bool(low <= value <= high)

    return test, f"a whole number of at least {low}" + (f" and at most {high:g}" if high < math.inf else "")


_BOOLEAN = (lambda value: isinstance(value, bool), "True or False")

#: field -> (test, requirement for messages).
FIELD_RULES: dict[str, tuple[Any, str]] = {
    "feature_size": (lambda value: value == 1, "1, the only value in published files"),
    "sampling_rate": _whole(MIN_RATE, MAX_RATE),
    "num_mel_bins": _whole(1, 512),
    "max_length": _whole(1, MAX_FRAMES),
    "padding_value": (
        lambda value: value == 0.0,
        "0.0: padding is raw 0.0 before normalisation, as in training",
    ),
    "padding_side": (lambda value: value == "right", "'right'"),
    "do_normalize": _BOOLEAN,
    "mean": (lambda value: is_finite_number(value) and abs(value) <= MAX_STATISTIC, "a finite number"),
    "std": (
        lambda value: is_finite_number(value) and 1 / MAX_STATISTIC <= value <= MAX_STATISTIC,
        f"a number above 0, in {1 / MAX_STATISTIC:g}..{MAX_STATISTIC:g}",
    ),
    "return_attention_mask": _BOOLEAN,
    "strict": _BOOLEAN,
}

#: Keys besides the fields in files that transformers writes.
_FILE_KEYS = frozenset({"feature_extractor_type", "processor_class", "image_processor_type", "auto_map"})


class ASTFeatureExtractor(SequenceFeatureExtractor):
    """Feature extractor from waveforms to the normalised log-mel spectrograms that an AST takes.

    Kaldi log-mel spectrograms (see `ast_hf.log_mel`) are padded with raw 0.0 or cut to `max_length` frames,
    and then normalised as `(x - mean) / (2 * std)`. Published weights were trained with this order: a padded
    frame has the value `-mean / (2 * std)`, +0.467 for AudioSet, not the value of silence (the original's
    `dataloader.py`). The file format is that of transformers' `ASTFeatureExtractor`, in both directions.

    Args:
        feature_size: always 1; part of the file format.
        sampling_rate: rate in Hz that waveforms must have. Frames are 25 ms every 10 ms at any rate.
        num_mel_bins: mel filters between 20 Hz and half the sampling rate.
        max_length: frames to pad to with padding `"max_length"`, and to cut longer clips to.
        padding_value: always 0.0.
        do_normalize: apply mean and std.
        mean: mean of the raw log-mel values of the training data.
        std: their standard deviation.
        return_attention_mask: return `attention_mask` from calls by default.
        strict: raise E107 in calls without `sampling_rate`, instead of assuming the extractor's rate with one
            warning per process (W212), as transformers documents. Not saved.

    Raises:
        AstConfigError: E301 for invalid values and unknown names; the message names the field.
    """

    model_input_names = ["input_values", "attention_mask"]  # noqa: RUF012 (read by transformers)

    def __init__(
        self,
        feature_size: int = 1,
        sampling_rate: int = 16_000,
        num_mel_bins: int = 128,
        max_length: int = 1024,
        padding_value: float = 0.0,
        do_normalize: bool = True,
        mean: float = AUDIOSET_MEAN,
        std: float = AUDIOSET_STD,
        return_attention_mask: bool = False,
        strict: bool = False,
        **kwargs: Any,
    ) -> None:
        for name in kwargs:
            if name not in _FILE_KEYS | {"padding_side"} and not name.startswith("_"):
                where = f"ASTFeatureExtractor.{name}"
                fix = did_you_mean(name, FIELD_RULES)
                raise error("E301", where=where, what="is not a recognised field", fix=fix)
        super().__init__(
            feature_size=feature_size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs
        )
        self.num_mel_bins = num_mel_bins
        self.max_length = max_length
        self.do_normalize = do_normalize
        self.mean = mean
        self.std = std
        self.return_attention_mask = return_attention_mask
        self.strict = strict
        self.validate()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; numpy and torch numbers in fields become plain Python numbers."""
        super().__setattr__(name, _plain_field(name, value) if name in FIELD_RULES else value)

    @classmethod
    def get_feature_extractor_dict(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """Return the content of the preprocessor file, and the unused arguments.

        Raises E306 for a checkpoint folder without a saved extractor, whose message shows how to save one, and
        for a file that is not a JSON object.
        """
        if problem := extractor_problem(pretrained_model_name_or_path, kwargs.get("subfolder")):
            raise problem
        try:
            return super().get_feature_extractor_dict(pretrained_model_name_or_path, **kwargs)
        finally:  # also if it cannot be parsed
            verify_loaded(pretrained_model_name_or_path, "preprocessor_config.json", kwargs)

    @classmethod
    def from_dict(cls, feature_extractor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Build an extractor from the content of its file, with `kwargs` replacing fields.

        Fields of other tools are dropped. A field that looks misspelt raises E301, since its default would
        change every score. A file without a mean or std, or with AudioSet's at another sampling rate, gives a
        warning (W302).
        """
        _check_content(feature_extractor_dict)
        names = set(FIELD_RULES) | _FILE_KEYS
        if cls is not ASTFeatureExtractor:  # a subclass may have other fields
            names |= set(feature_extractor_dict)
        fields = {
            name: value
            for name, value in feature_extractor_dict.items()
            if name in names or (name.startswith("_") and not hasattr(cls, name))  # not a method's name
        }
        for name in feature_extractor_dict.keys() - fields.keys():
            _reject_misspelt(name, f"preprocessor_config.json: {name}")
        for name in kwargs.keys() - names:  # other names are left to transformers (code_revision, ...)
            _reject_misspelt(name, f"ASTFeatureExtractor.{name}")
        fields |= {name: value for name, value in kwargs.items() if name in FIELD_RULES}
        loaded = super().from_dict(fields, **kwargs)
        extractor = loaded[0] if isinstance(loaded, tuple) else loaded
        extractor.validate()
        _warn_of_statistics(extractor, fields)
        return loaded

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as stored in `preprocessor_config.json`."""
        return {name: value for name, value in super().to_dict().items() if name != "strict"}

    def validate(self) -> None:
        """Raise E301 for the first invalid field. Runs at construction, at loading and before each call."""
        for field, (test, requirement) in FIELD_RULES.items():
            value = getattr(self, field)
            if not test(value):
                what = f"{shown(value)} has to be {requirement}"
                where = f"ASTFeatureExtractor.{field}"
                raise error("E301", where=where, what=what, fix=f"set {field} to that")
        _, _, fft_length = frame_lengths(self.sampling_rate)
        if self.num_mel_bins > fft_length // 2:
            what = f"{self.num_mel_bins} filters over {fft_length // 2} frequencies: most would be empty"
            raise error("E301", where="ASTFeatureExtractor.num_mel_bins", what=what, fix="use 128 or fewer")

    def __call__(
        self,
        raw_speech: Any,
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
        *,
        padding: bool | str = "max_length",
        max_length: int | None = None,
        truncation: bool | None = None,
        return_attention_mask: bool | None = None,
        do_normalize: bool | None = None,
        pad_to_multiple_of: int | None = None,
        channels: str | None = None,
        input_is_spectrogram: bool = False,
        device: str | torch.device | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Extract features of one clip or a batch; the result always has a batch dimension.

        Args:
            raw_speech: one clip (1-D array, tensor or list of floats) or several (list of clips of any
                lengths, or a 2-D array `(clips, time)`). Shapes `(1, time)` and `(time, 1)`, as torchaudio
                and soundfile return mono, are one clip. float16/32/64 in [-1, 1], or int16, int32, uint8 at
                full scale, which are scaled exactly. The input is not modified.
            sampling_rate: rate of the clips in Hz; has to be the extractor's, which None assumes.
            return_tensors: `"pt"`, `"np"`, or None for a list of arrays.
            padding: `"max_length"` (default), `"longest"`/True, or `"do_not_pad"`/False.
            max_length: frames (of 10 ms) to pad and cut to instead of the extractor's `max_length`. A value of
                at least 8,000 and more than ten times the extractor's is taken for a number of samples, as in
                wav2vec2, and ignored with a warning (W210).
            truncation: cut clips longer than `max_length` frames. True cuts silently, False does not cut.
                None (default) cuts and warns once per extractor with the seconds that are lost (W201).
            return_attention_mask: also return `attention_mask`, int64 `(batch, frames)`, 1 on real frames.
            do_normalize: apply mean and std, or return raw log-mel values.
            pad_to_multiple_of: pad to the next multiple of this number of frames.
            channels: meaning of a 2-D array: `"batch"` (rows are clips; the default, with a warning, W211,
                for two rows, which may be stereo), `"first"` (channels, time) or `"last"` (time, channels),
                which are averaged.
            input_is_spectrogram: the clips are raw log-mel arrays `(frames, num_mel_bins)`.
            device: where to compute and return `"pt"` features; None for the device of the clips.

        Returns:
            BatchFeature with `input_values`, float32 `(batch, frames, num_mel_bins)`, roughly in [-1.3, 1.3].

        Raises:
            AstInputError: E101-E108; the message names the clip's index in the batch.
        """
        _check_unknown(kwargs)
        self.validate()
        self._check_rate(sampling_rate, input_is_spectrogram)
        limit = self._frame_limit(plain_whole(max_length))
        _check_arguments(padding, limit, return_tensors, channels, device)
        _check_multiple(pad_to_multiple_of)
        _check_flags(
            truncation=truncation, return_attention_mask=return_attention_mask, do_normalize=do_normalize
        )
        clips = _split(raw_speech, channels, spectrograms=input_is_spectrogram)
        home = None if device is None else torch.device(device)
        report = functools.partial(self._report, limit=limit, truncation=truncation)
        sources, counts = self._read(clips, home, report, spectrograms=input_is_spectrogram)
        home = home or sources[0].device
        cuts = truncation is None or truncation
        lengths = [min(count, limit) if cuts else count for count in counts]
        normalize = self.do_normalize if do_normalize is None else do_normalize
        rows = self._allocate(lengths, padding, limit, pad_to_multiple_of or 1, device=home)
        levels = self._fill(rows, sources, lengths, spectrograms=input_is_spectrogram, normalize=normalize)
        report(counts, sources, levels)
        padded = self._normalized_by_subclass(rows) if normalize else rows
        batch = {"input_values": padded}
        if self.return_attention_mask if return_attention_mask is None else return_attention_mask:
            self._warn_of_mask(return_attention_mask)
            batch["attention_mask"] = _attention_mask(padded, lengths)
        return BatchFeature(_as_requested(batch, return_tensors))

    def checked(self, waveform: Any) -> torch.Tensor:
        """Return the samples of a clip `(time,)`, with the errors and warnings of a call, which name it `clip 0`."""
        source, frames = self._read_waveform(waveform, "clip 0", None)
        self._report([frames], [source], [_extremes(source)], limit=frames, truncation=True)
        return source

    def batch_features(self, waveforms: Sequence[torch.Tensor], device: torch.device) -> torch.Tensor:
        """Return the `input_values` of samples that are checked already, computed on `device`.

        Clips in the processor's memory go to a GPU in one copy, and nothing waits for it.

        Args:
            waveforms: float32 at the extractor's rate, `(time,)` each, at least 25 ms long.
            device: where to compute.

        Returns:
            float32 `(clips, max_length, num_mel_bins)`, padded or cut, and normalised if `do_normalize` is set.
        """
        lengths = [min(num_frames(len(clip), self.sampling_rate), self.max_length) for clip in waveforms]
        rows = self._allocate(lengths, "max_length", self.max_length, 1, device=device)
        self._fill(rows, waveforms, lengths, normalize=self.do_normalize, checks=False)
        batch = self._normalized_by_subclass(rows) if self.do_normalize else rows
        assert isinstance(batch, torch.Tensor)
        return batch

    def joined_features(self, samples: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """Return the `input_values` of joined clips that are checked already, computed in one pass where they are.

        Args:
            samples: `(clips, time)` on a GPU: float32 at the extractor's rate, or int16 at full scale; what follows
                the end of a clip has no effect.
            lengths: number of samples of each clip, at least those of 25 ms.

        Returns:
            As `batch_features`, the same bits.
        """
        counts = [min(num_frames(length, self.sampling_rate), self.max_length) for length in lengths]
        rows = self._allocate(counts, "max_length", self.max_length, 1, device=samples.device)
        for group in passes(samples):
            self._write_pass(rows, group, as_float32(samples[group.start : group.stop]), counts)
        self._normalize_rows(rows, self.do_normalize)
        batch = self._normalized_by_subclass(rows) if self.do_normalize else rows
        assert isinstance(batch, torch.Tensor)
        return batch

    def normalize(self, input_values: Any) -> Any:
        """Return raw log-mel values of any shape normalised, `(x - mean) / (2 * std)`."""
        centred = input_values - self.mean
        return centred.div_(2 * self.std) if isinstance(centred, torch.Tensor) else centred / (2 * self.std)

    def pad(
        self,
        processed_features: Any,
        padding: bool | str | PaddingStrategy = True,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | TensorType | None = None,
    ) -> BatchFeature:
        """Pad features that were extracted with `padding=False`, as data collators do.

        Works as `SequenceFeatureExtractor.pad`. Padded frames have the same value as in a call, raw 0.0,
        normalised if `do_normalize` is set, so that both ways give the same `input_values`. Features with an
        `attention_mask` keep it.
        """
        if return_attention_mask is None and _has_key(processed_features, "attention_mask"):
            return_attention_mask = True
        return super().pad(
            processed_features,
            padding=padding,
            max_length=max_length,
            truncation=truncation,
            pad_to_multiple_of=pad_to_multiple_of,
            return_attention_mask=return_attention_mask,
            return_tensors=return_tensors,
        )

    def _pad(self, processed_features: Any, *args: Any, **kwargs: Any) -> dict[str, np.ndarray]:
        """Pad one example `(frames, num_mel_bins)`; the base class can only pad vectors."""
        name = self.model_input_names[0]
        values = processed_features[name]
        if values.ndim != 2:
            return super()._pad(processed_features, *args, **kwargs)
        padded = super()._pad({**processed_features, name: values[:, 0]}, *args, **kwargs)
        missing = len(padded[name]) - len(values)
        filler = self.normalize(self.padding_value) if self.do_normalize else self.padding_value
        padded[name] = np.pad(values, ((0, missing), (0, 0)), constant_values=filler)
        return padded

    def _frame_limit(self, max_length: Any) -> Any:
        """Return the number of frames to pad and cut to; ignore a `max_length` that counts samples (W210)."""
        if max_length is None:
            return self.max_length
        counts_samples = isinstance(max_length, int) and max_length >= SAMPLES_FROM
        if not counts_samples or max_length <= SAMPLES_FACTOR * self.max_length:
            return max_length
        text = (
            f"{max_length} is ignored, it looks like a number of samples: here it counts frames of 10 ms, "
            f"and {self.max_length} frames ({frames_to_seconds(self.max_length):g} s) are used"
        )
        warnings.warn(warning_text("W210", where="max_length", what=text), AstHfWarning, stacklevel=3)
        return self.max_length

    def _warn_of_mask(self, requested: bool | None) -> None:
        """Warn once (W213) that the model ignores padding, unlike with transformers' extractor."""
        reason = "this call requests it" if requested else "the extractor's own return_attention_mask is set"
        text = (
            f"is returned because {reason}, and the model ignores padding; transformers' AST extractor never "
            "returns it, so scores of short clips differ. Train and classify with the same setting"
        )
        warn_once("W213", where="attention_mask", what=text, stacklevel=3)

    def _check_rate(self, sampling_rate: Any, spectrogram: bool) -> None:
        """Raise E102 or E107 unless clips have the extractor's rate, which None assumes (W212)."""
        where = "sampling_rate"
        if sampling_rate is None:
            if spectrogram:
                return
            fix = f"pass sampling_rate={self.sampling_rate} if the clips have that rate, else resample them"
            if self.strict:
                raise error("E107", where=where, what="is missing, and samples do not contain it", fix=fix)
            what = f"is missing, and {self.sampling_rate} Hz is assumed; pass sampling_rate= to check it"
            warn_once("W212", where=where, what=what, stacklevel=3)
            return
        sampling_rate = plain_whole(sampling_rate)
        if isinstance(sampling_rate, bool) or not isinstance(sampling_rate, int):
            raise wrong_type("E102", where=where, value=sampling_rate, expected="a whole number of Hz")
        if sampling_rate != self.sampling_rate:
            what = f"{sampling_rate} Hz, but the model needs {self.sampling_rate} Hz"
            fix = f"resample with ast_hf.load_audio(clip, {self.sampling_rate}, source_rate={sampling_rate})"
            raise error("E107", where=where, what=what, fix=fix)

    def _read(
        self, clips: Sequence[Any], device: torch.device | None, report: Any, *, spectrograms: bool
    ) -> tuple[list[torch.Tensor], list[int]]:
        """Return the clips as tensors, and the number of frames of each; `report` reports on those before an error."""
        read = self._read_spectrogram if spectrograms else self._read_waveform
        sources: list[torch.Tensor] = []
        counts: list[int] = []
        for index, clip in enumerate(clips):
            try:
                source, frames = read(clip, f"clip {index}", device)
            except AstHfError:
                report(counts, sources, [] if spectrograms else [_extremes(each) for each in sources])
                raise
            sources.append(source)
            counts.append(frames)
            device = device or source.device
        return sources, counts

    def _report(
        self,
        counts: list[int],
        sources: Sequence[torch.Tensor],
        levels: Sequence[tuple[float, float]],
        *,
        limit: int,
        truncation: bool | None,
    ) -> None:
        """Raise E104 for NaN or a peak above `MAX_PEAK`; warn of levels (W202, W203) and cuts (W201), clip by clip.

        `levels` are the lowest and highest samples, none for spectrograms.
        """
        for index, count in enumerate(counts):
            where = f"clip {index}"
            for code, what in _level_problems(sources[index], *levels[index], where) if levels else ():
                warnings.warn(warning_text(code, where=where, what=what), AstHfWarning, stacklevel=3)
            if truncation is None and count > limit and self not in _WARNED_OF_CUTS:
                _WARNED_OF_CUTS.add(self)
                self.warn_truncated(count, limit, where, "; further clips are cut without a warning")

    def _read_waveform(self, clip: Any, where: str, device: torch.device | None) -> tuple[torch.Tensor, int]:
        """Return the samples of a clip, and the number of its frames.

        For a GPU, samples on the CPU stay there, to be joined with others and copied at once.
        """
        waveform = as_waveform(clip, where)
        if device is not None and not is_batched(device):
            waveform = waveform.to(device)
        frames = num_frames(len(waveform), self.sampling_rate)
        if frames == 0:
            frame = frame_lengths(self.sampling_rate)[0]
            fix = f"give at least {frame} samples (25 ms at {self.sampling_rate} Hz), or leave the clip out"
            raise error("E103", where=where, what=f"too short, {len(waveform)} samples", fix=fix)
        return waveform, frames

    def _read_spectrogram(
        self, clip: Any, where: str, device: torch.device | None
    ) -> tuple[torch.Tensor, int]:
        """Return a raw log-mel spectrogram, and the number of its frames."""
        feature = as_samples(clip, where)
        if device is not None:
            feature = feature.to(device)
        if feature.ndim != 2 or feature.shape[1] != self.num_mel_bins or not len(feature):
            what = f"has shape {tuple(feature.shape)}"
            fix = f"give (frames, {self.num_mel_bins}) raw log-mel values"
            raise error("E106", where=where, what=what, fix=fix)
        if not torch.isfinite(feature).all():
            what = "has NaN or infinite values"
            raise error("E104", where=where, what=what, fix="recompute the spectrogram")
        return feature, len(feature)

    def warn_truncated(self, frames: int, limit: int, where: str, note: str = "") -> None:
        """Warn (W201) with the lost seconds if the clip `where` is cut from `frames` to `limit` frames."""
        if frames > limit:
            lost = (frames - limit) * frame_lengths(self.sampling_rate)[1] / self.sampling_rate
            text = f"only the first {limit} of {frames} frames are used, {lost:.2f} s are dropped{note}"
            warnings.warn(warning_text("W201", where=where, what=text), AstHfWarning, stacklevel=4)

    def _allocate(
        self,
        lengths: list[int],
        padding: bool | str,
        limit: int,
        multiple: int,
        *,
        device: torch.device | None,
    ) -> list[torch.Tensor] | torch.Tensor:
        """Return memory for features of some frames each: one tensor `(batch, frames, mel)`.

        Without padding, clips of different lengths are a list of `(frames, mel)`.
        """
        if padding == "max_length":
            length = max(limit, *lengths)
        elif padding in ("longest", True):
            length = max(lengths)
        elif len(set(lengths)) > 1:
            return [_memory(length, self.num_mel_bins, device=device) for length in lengths]
        else:
            length = lengths[0]
            multiple = 1
        length = math.ceil(length / multiple) * multiple
        return _memory(len(lengths), length, self.num_mel_bins, device=device)

    def _fill(
        self,
        rows: list[torch.Tensor] | torch.Tensor,
        sources: Sequence[torch.Tensor],
        lengths: list[int],
        *,
        normalize: bool,
        spectrograms: bool = False,
        checks: bool = True,
    ) -> list[tuple[float, float]]:
        """Write features of clips, given as samples or spectrograms, padded with raw 0.0, then normalised.

        Returns the lowest and highest sample of each clip, which has no features if they are beyond `MAX_PEAK`;
        an empty list for spectrograms, and without `checks`.
        """
        levels: list[tuple[float, float]] = []
        if spectrograms:
            for row, source, length in zip(rows, sources, lengths, strict=True):
                row[:length] = source[:length]
                row[length:] = self.padding_value
        elif is_batched(rows[0].device):
            levels = self._fill_in_one_pass(rows, sources, lengths, checks=checks)
        else:
            return self._fill_clip_by_clip(rows, sources, lengths, normalize=normalize)
        self._normalize_rows(rows, normalize)
        return levels

    def _normalize_rows(self, rows: list[torch.Tensor] | torch.Tensor, normalize: bool) -> None:
        """Normalise raw features in place, if that is asked for and no subclass has its own way."""
        if normalize and self._has_own_normalize:
            for part in [rows] if isinstance(rows, torch.Tensor) else rows:
                part.sub_(self.mean).div_(2 * self.std)

    @property
    def _has_own_normalize(self) -> bool:
        """Whether no subclass replaces `normalize`."""
        return type(self).normalize is ASTFeatureExtractor.normalize

    def _normalized_by_subclass(
        self, rows: list[torch.Tensor] | torch.Tensor
    ) -> list[torch.Tensor] | torch.Tensor:
        """Return features normalised by the `normalize` of a subclass, if it has one."""
        if self._has_own_normalize:
            return rows
        return (
            self.normalize(rows) if isinstance(rows, torch.Tensor) else [self.normalize(row) for row in rows]
        )

    def _fill_clip_by_clip(
        self,
        rows: list[torch.Tensor] | torch.Tensor,
        sources: Sequence[torch.Tensor],
        lengths: list[int],
        *,
        normalize: bool,
    ) -> list[tuple[float, float]]:
        """Write features on the CPU, for a large batch on several threads; return the clips' levels."""
        arrays = rows.numpy() if isinstance(rows, torch.Tensor) else [row.numpy() for row in rows]
        levels = [(0.0, 0.0)] * len(lengths)
        has_own = self._has_own_normalize

        def write(index: int) -> None:
            row = arrays[index]
            length = lengths[index]
            low, high = levels[index] = _extremes(sources[index])
            if not max(-low, high) <= MAX_PEAK:
                return
            write_log_mel(sources[index].numpy(), self.sampling_rate, row[:length])
            row[length:] = self.padding_value
            if normalize and has_own:
                np.subtract(row, self.mean, out=row)
                np.divide(row, 2 * self.std, out=row)

        for_each_clip(write, lengths)
        return levels

    def _fill_in_one_pass(
        self,
        rows: list[torch.Tensor] | torch.Tensor,
        sources: Sequence[torch.Tensor],
        lengths: list[int],
        *,
        checks: bool,
    ) -> list[tuple[float, float]]:
        """Write raw log-mel values and padding on another device; return the clips' levels.

        The levels of clips that are on the device come to the CPU in one copy at the end.
        """
        on_cpu = all(not is_batched(source.device) for source in sources)
        found = []
        for group in passes(sources):
            batch = padded([sources[index] for index in group], rows[0].device)
            self._write_pass(rows, group, batch, lengths)
            if checks and not on_cpu:
                found.append(extremes(batch))
        if not checks:
            return []
        if on_cpu:
            return [_extremes(source) for source in sources]
        return [(low, high) for low, high in torch.cat(found, dim=1).T.tolist()]

    def _write_pass(
        self,
        rows: list[torch.Tensor] | torch.Tensor,
        group: range,
        batch: torch.Tensor,
        lengths: list[int],
    ) -> None:
        """Write raw log-mel values of the padded clips of a group, and padding, into their rows."""
        counts = [lengths[index] for index in group]
        values = log_mel_padded(batch, counts, self.sampling_rate, self.num_mel_bins)
        if isinstance(rows, torch.Tensor):
            rows[group.start : group.stop, : values.shape[1]] = values
            rows[group.start : group.stop, values.shape[1] :] = self.padding_value
            return
        for index, row in zip(group, values, strict=True):
            rows[index].copy_(row[: lengths[index]])


class FeatureExtractionFiles(FeatureExtractionMixin):
    """File reader of `AutoFeatureExtractor`, whose OSError for a missing or damaged file has the fix."""

    @classmethod
    def get_feature_extractor_dict(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """Return the content of the preprocessor file, and the unused arguments."""
        if problem := extractor_problem(pretrained_model_name_or_path, kwargs.get("subfolder")):
            raise OSError(str(problem)) from problem  # transformers documents an OSError
        return super().get_feature_extractor_dict(pretrained_model_name_or_path, **kwargs)


#: Files of an extractor, as transformers looks for them.
_EXTRACTOR_FILES = ("preprocessor_config.json", "processor_config.json")


def extractor_problem(source: str | PathLike, subfolder: str | None = None) -> AstHfError | None:
    """Return E306 for the folder of an AST checkpoint whose extractor is missing or damaged, else None."""
    folder = Path(source) / (subfolder or "")
    saved = [folder / name for name in _EXTRACTOR_FILES if (folder / name).exists()]
    try:
        for path in saved:
            read_json(path)
    except AstHfError as problem:
        return problem
    if saved or not (folder / "config.json").is_file():
        return None
    try:
        config = read_json(folder / "config.json")
    except AstHfError:  # loading the model raises it
        return None
    if config.get("model_type", ASTConfig.model_type) != ASTConfig.model_type:
        return None
    sizes = Geometry.of(config)
    line = (
        f"ASTFeatureExtractor(max_length={sizes.max_length}, num_mel_bins={sizes.num_mel_bins})"
        f".save_pretrained({str(folder)!r})"
    )
    what = "has no preprocessor_config.json, since the feature extractor was never saved there"
    fix = f"save the extractor that it was trained with, for example {line}, with its mean and std"
    return error("E306", where=repr(str(folder)), what=what, fix=fix, detail="missing")


def _plain_field(name: str, value: Any) -> Any:
    """Return a field's value as stored in JSON: plain numbers, and booleans for 0 and 1."""
    if isinstance(value, (np.ndarray, torch.Tensor)) and value.shape == (1,):
        value = value[0]
    value = plain_scalar(value)
    if FIELD_RULES[name] is _BOOLEAN and (value is None or (isinstance(value, int) and value in (0, 1))):
        return bool(value)
    return value


def check_fits(extractor: Any, config: Any, model: str) -> None:
    """Raise E304 if an extractor makes inputs of another size than a model takes; `model` is its name.

    Only an `ASTFeatureExtractor` has these sizes; another extractor passes.
    """
    for field in ("max_length", "num_mel_bins") if isinstance(extractor, ASTFeatureExtractor) else ():
        of_extractor = getattr(extractor, field)
        of_model = getattr(config, field, None)
        if of_extractor != of_model:
            what = f"{of_extractor} in preprocessor_config.json, but {of_model} in config.json of {model}"
            fix = f"make the two files agree, or call model.resize_input({field}={of_extractor})"
            raise error("E304", where=field, what=what, fix=fix)


def _check_content(content: Any) -> None:
    """Raise E306 unless the content of an extractor's file is an object of fields."""
    if not isinstance(content, dict):
        what = f"contains a {type(content).__name__}, not an object of fields"
        fix = "restore the file from its source"
        raise error("E306", where=_EXTRACTOR_FILES[0], what=what, fix=fix, detail="unreadable")


def _warn_of_statistics(extractor: ASTFeatureExtractor, fields: dict[str, Any]) -> None:
    """Warn (W302) about a file without mean or std, or with AudioSet's at another rate than AudioSet's."""
    missing = [name for name in ("mean", "std") if name not in fields]
    if missing and extractor.do_normalize:
        text = f"has no {' and no '.join(missing)}: AudioSet's is used, which is wrong for a model of other clips"
        warnings.warn(warning_text("W302", where=_EXTRACTOR_FILES[0], what=text), AstHfWarning, stacklevel=4)
    rate = inspect.signature(ASTFeatureExtractor).parameters["sampling_rate"].default
    is_audioset = (extractor.mean, extractor.std) == (AUDIOSET_MEAN, AUDIOSET_STD)
    if is_audioset and extractor.do_normalize and extractor.sampling_rate != rate:
        text = f"is {extractor.sampling_rate}, but mean and std are AudioSet's, which has {rate} Hz"
        where = f"{_EXTRACTOR_FILES[0]}: sampling_rate"
        warnings.warn(warning_text("W302", where=where, what=text), AstHfWarning, stacklevel=4)


def _reject_misspelt(name: str, where: str) -> None:
    if near := nearest(name, FIELD_RULES, cutoff=0.85):
        raise error("E301", where=where, what="is not a recognised field", fix=f"did you mean {near!r}?")


def _argument_error(name: str, what: str, fix: str) -> Exception:
    return error("E108", where=name, what=what, fix=fix)


#: Extractors that have warned about a cut clip. They warn once: a run cuts the same clips every epoch.
_WARNED_OF_CUTS: weakref.WeakSet[ASTFeatureExtractor] = weakref.WeakSet()

#: Fields and arguments of calls, for "did you mean".
_CALL_ARGUMENTS = (
    *FIELD_RULES,
    "padding",
    "truncation",
    "return_tensors",
    "pad_to_multiple_of",
    "device",
    "channels",
)


def _check_unknown(arguments: dict[str, Any]) -> None:
    """Raise E108 for a misspelt argument; warn (W302) about an argument of other extractors."""
    for name in arguments:
        if name in FIELD_RULES:
            text = f"is a field of the extractor, not an argument of a call: set extractor.{name} = ..."
            warnings.warn(warning_text("W302", where=name, what=text), AstHfWarning, stacklevel=3)
            continue
        if nearest(name, _CALL_ARGUMENTS, cutoff=0.8) is not None:
            fix = did_you_mean(name, _CALL_ARGUMENTS)
            raise _argument_error(name, "is not an argument of this call", fix)
        text = "is not an argument of this extractor and has no effect"
        warnings.warn(warning_text("W302", where=name, what=text), AstHfWarning, stacklevel=3)


def _check_multiple(value: Any) -> None:
    if value is not None and not FIELD_RULES["max_length"][0](value):
        what = f"{value!r} is not a number of frames"
        raise _argument_error("pad_to_multiple_of", what, "give 1 or more, or None")


def _has_key(features: Any, key: str) -> bool:
    """Return True if features, or the first of a list of features, have an entry `key`."""
    return key in (features[0] if isinstance(features, (list, tuple)) and features else features)


def _check_flags(**flags: Any) -> None:
    for name, value in flags.items():
        if value is not None and not isinstance(value, (bool, np.bool_)):
            raise _choice_error(name, value, "use True, False or None")


def _choice_error(name: str, value: Any, fix: str) -> Exception:
    return _argument_error(name, f"{value!r} is not a valid choice", fix)


def _check_arguments(padding: Any, limit: Any, return_tensors: Any, channels: Any, device: Any) -> None:
    if padding not in PADDING_CHOICES:
        fix = "use 'max_length', 'longest' or 'do_not_pad'"
        raise _choice_error("padding", getattr(padding, "value", padding), fix)
    test, requirement = FIELD_RULES["max_length"]
    if not test(limit):
        raise _argument_error("max_length", f"{limit!r} has to be {requirement}", "give a number of frames")
    if return_tensors not in (None, "pt", "np"):
        raise _choice_error("return_tensors", return_tensors, "use 'pt', 'np' or None")
    if channels not in CHANNEL_CHOICES:
        raise _choice_error("channels", channels, "use 'batch', 'first' or 'last'")
    if device is not None:
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, TypeError) as problem:
            what = f"{device!r} cannot be used"
            fix = "use 'cpu' or a GPU of this machine"
            raise unreadable("E108", where="device", problem=problem, fix=fix, what=what) from problem


def _split(raw: Any, channels: str | None, *, spectrograms: bool) -> Sequence[Any]:
    """Return the clips of a call. A list of numbers is one clip, any other list is a list of clips."""
    clips: Sequence[Any]
    if isinstance(raw, (list, tuple)):
        if not raw:
            raise error("E101", where="batch", what="has no clips", fix="pass at least one")
        one_clip = _is_sample(raw[0]) and not isinstance(raw[0], bool)
        clips = [raw] if one_clip else raw
    elif not isinstance(raw, (np.ndarray, torch.Tensor)) or raw.ndim < 2:
        clips = [raw]  # `as_samples` raises E102 for anything that is not an array
    elif raw.ndim == 2:
        clips = [raw] if spectrograms else _split_rows(raw, channels)
    elif raw.ndim == 3:
        clips = list(raw)
    else:
        what = f"has shape {tuple(raw.shape)}"
        raise error("E106", where="batch", what=what, fix="pass a list of 1-D clips")
    if spectrograms:
        return clips
    return [_mix_to_mono(clip, channels, f"clip {index}") for index, clip in enumerate(clips)]


def _split_rows(raw: Any, channels: str | None) -> Sequence[Any]:
    """Return the clips of a 2-D array: its rows, unless it is one clip with a channel axis."""
    rows, columns = raw.shape
    if rows == 0:
        raise error("E101", where="batch", what="has no clips", fix="pass at least one")
    if channels in ("first", "last") or (channels is None and 1 in raw.shape):
        return [raw]
    if channels is None and 0 < columns <= MAX_CHANNELS:
        what = f"an array of shape {tuple(raw.shape)} is not a batch: its rows are too short to be clips"
        raise error("E106", where="batch", what=what, fix="pass channels='last' for (time, channels)")
    if channels is None and rows == 2:
        text = "an array of two rows is read as two clips; pass channels='first' if it is one clip in stereo"
        warnings.warn(warning_text("W211", where="batch", what=text), AstHfWarning, stacklevel=4)
    return list(raw)


def _is_sample(value: Any) -> bool:
    return isinstance(value, (int, float, np.number))


def _mix_to_mono(clip: Any, channels: str | None, where: str) -> Any:
    """Return a clip averaged over the axis that `channels` names; raise E106 for two axes without a name."""
    # `datasets` returns a clip of shape (1, time) as a nested list.
    while isinstance(clip, (list, tuple)) and len(clip) == 1 and not _is_sample(clip[0]):
        clip = clip[0]
    if not isinstance(clip, (np.ndarray, torch.Tensor)) or clip.ndim != 2:
        return clip
    if 1 in clip.shape and channels in (None, "batch"):
        return clip.reshape(-1)
    if channels not in ("first", "last"):
        what = f"has shape {tuple(clip.shape)}, a clip is one-dimensional"
        fix = "mix its channels first, or pass channels='first' (channels, time) or 'last' (time, channels)"
        raise error("E106", where=where, what=what, fix=fix)
    rows = clip if channels == "first" else clip.T
    waveforms = [as_waveform(row, f"{where}, channel {index}") for index, row in enumerate(rows)]
    return torch.stack(waveforms).mean(dim=0)


def level_problems(waveform: torch.Tensor, where: str) -> list[tuple[str, str]]:
    """Return codes (W202, W203) and texts of warnings about the level of samples `(time,)`.

    Raises E104 for NaN or a peak above `MAX_PEAK`; `where` names the clip.
    """
    return _level_problems(waveform, *_extremes(waveform), where)


def _level_problems(waveform: torch.Tensor, low: float, high: float, where: str) -> list[tuple[str, str]]:
    problems = []
    peak = max(-low, high)
    if not peak <= MAX_PEAK:
        invalid = ~(waveform.abs() <= MAX_PEAK)
        count = int(invalid.sum())
        first = int(invalid.nonzero()[0])
        what = f"{count} samples are NaN, infinite or above {MAX_PEAK:g}, the first at {first}"
        fix = "repair or drop the clip; samples should be in [-1, 1]"
        raise error("E104", where=where, what=what, fix=fix)
    if peak > LOUD_PEAK:
        text = f"peaks at {peak:g}; samples in [-1, 1] are expected, this looks unscaled"
        problems.append(("W202", text))
    if high == low:
        problems.append(("W203", "has no signal, every sample is the same"))
    return problems


def _attention_mask(
    padded: list[torch.Tensor] | torch.Tensor, lengths: list[int]
) -> list[torch.Tensor] | torch.Tensor:
    """Return 1 for the real frames of each clip and 0 for padding, int64."""
    if isinstance(padded, torch.Tensor):
        ends = torch.tensor(lengths).to(padded.device, non_blocking=True)
        return (torch.arange(padded.shape[1], device=padded.device) < ends[:, None]).long()
    return [torch.ones(length, dtype=torch.long, device=padded[0].device) for length in lengths]


def _memory(*shape: int, device: torch.device | None) -> torch.Tensor:
    """Return an uninitialised tensor, float32.

    numpy asks for large pages, torch does not: with small ones, new memory for 64 clips of 10 s costs a third of the
    time of their features.
    """
    if device is None or device.type == "cpu":
        return torch.from_numpy(np.empty(shape, np.float32))
    return torch.empty(shape, device=device)


def _extremes(waveform: torch.Tensor) -> tuple[float, float]:
    """Return the lowest and the highest sample, NaN for both if a sample is NaN."""
    if waveform.is_cpu:  # numpy's two passes take half the time of torch's one
        samples = waveform.numpy()
        return float(samples.min()), float(samples.max())
    low, high = torch.stack(waveform.aminmax()).tolist()  # one copy to the host
    return low, high


def _as_requested(batch: dict[str, Any], return_tensors: str | None) -> dict[str, Any]:
    """Return a batch as torch tensors (`"pt"`), as numpy arrays (`"np"`), or as lists of arrays (None)."""
    if return_tensors is not None and isinstance(batch["input_values"], list):
        what = "False leaves clips of different lengths, which cannot be one tensor"
        raise _argument_error("padding", what, "pad to 'longest', or leave return_tensors out to get a list")
    return {name: _CONVERTERS[return_tensors](rows) for name, rows in batch.items()}


def _to_tensor(rows: Any) -> torch.Tensor:
    return rows if isinstance(rows, torch.Tensor) else torch.stack(rows)


#: return_tensors -> conversion of one entry of a batch.
_CONVERTERS: dict[str | None, Any] = {
    "pt": _to_tensor,
    "np": lambda rows: _to_tensor(rows).cpu().numpy(),
    None: lambda rows: [row.cpu().numpy() for row in rows],
}
