"""Print the events that a checkpoint finds in a microphone's sound, or in a file as if it were live.

python examples/live_microphone.py outputs/my_model --hop 0.5
python examples/live_microphone.py outputs/my_model --file recording.wav          # at the speed of the recording
python examples/live_microphone.py outputs/my_model --file recording.wav --fast   # as fast as possible

The microphone needs sounddevice: pip install sounddevice. Ctrl-C ends the stream (docs/how-to/live.md).
"""

from __future__ import annotations

import argparse
import queue
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import ast_hf

#: Seconds of a chunk.
CHUNK = 0.1
#: Chunks that may wait for the model: a minute. Then the oldest sound would be a minute late.
MOST_WAITING = 600


def read_options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="folder or Hub name of a checkpoint")
    parser.add_argument("--file", help="play this file instead of listening")
    parser.add_argument("--fast", action="store_true", help="do not wait for the time of the recording")
    parser.add_argument("--device", help="name or number of the microphone; default: the system's")
    parser.add_argument("--seconds", type=float, help="end after this time")
    parser.add_argument("--hop", type=float, help="seconds from window to window; default: a quarter of one")
    parser.add_argument("--window", type=float, help="seconds of a window; default: the model's")
    parser.add_argument("--threshold", type=float, help="score that an event reaches")
    parser.add_argument("--provisional", action="store_true", help="also show what is not certain yet")
    return parser.parse_args()


def main() -> int:
    """Classify a stream until it ends, and print its events."""
    options = read_options()
    try:
        microphone = None if options.file else open_microphone(options.device)
        rate = None if microphone is None else microphone.rate
        rules = {} if options.threshold is None else {"threshold": options.threshold}
        live = ast_hf.LiveClassifier(
            options.checkpoint,
            hop_seconds=options.hop,
            window_seconds=options.window,
            sampling_rate=rate,
            provisional=options.provisional,
            **rules,
        )
        print(f"Windows of {live.plan.samples / live.plan.rate:.2f} s every {live.plan.hop / live.plan.rate:.2f} s; "
              f"an event is certain at most {live.delay_seconds:.2f} s after its end.", file=sys.stderr)  # fmt: skip
        chunks = (
            file_chunks(options.file, live.sampling_rate, options.fast)
            if options.file
            else microphone.chunks()
        )
        classify(live, chunks, options.seconds)
    except (
        ast_hf.AstHfError,
        MissingMicrophoneError,
        OSError,
    ) as problem:  # OSError: transformers, no checkpoint
        print(problem, file=sys.stderr)
        return 1
    return 0


def classify(live: ast_hf.LiveClassifier, chunks: Iterator[np.ndarray], limit: float | None) -> None:
    """Push chunks until they end, the limit or Ctrl-C; print the events, and what the computing took."""
    computing = 0.0
    slowest = 0.0
    try:
        for chunk in chunks:
            begin = time.perf_counter()
            events = live.push(chunk)
            took = time.perf_counter() - begin
            computing += took
            slowest = max(slowest, took)
            show(events)
            if limit is not None and live.seconds >= limit:
                break
    except KeyboardInterrupt:
        pass
    show([event for event in live.close() if "provisional" not in event])
    print(f"{live.seconds:.1f} s of sound, {computing:.2f} s of computing, the slowest chunk {1000 * slowest:.0f} ms",
          file=sys.stderr)  # fmt: skip


def show(events: list[dict[str, Any]]) -> None:
    """Print the certain events, one a line, and the others on a line that is written again on a terminal."""
    for event in events:
        if "provisional" not in event:
            clear = "\r\033[K" if sys.stdout.isatty() else ""
            print(
                f"{clear}{event['start']:9.2f} {event['end']:9.2f}  {event['label']}  {event['score']:.2f}",
                flush=True,
            )
    open_ones = [
        f"{event['label']} since {event['start']:.1f} s" for event in events if "provisional" in event
    ]
    if sys.stdout.isatty() and open_ones:
        print(f"\r\033[K... {', '.join(open_ones)}", end="", flush=True)


def file_chunks(path: str, rate: int, fast: bool) -> Iterator[np.ndarray]:
    """Yield the chunks of a file, each when a microphone would give it."""
    size = round(CHUNK * rate)
    begin = time.monotonic()
    done = 0
    for block in ast_hf.audio_blocks(path, rate):
        for first in range(0, len(block), size):
            chunk = block[first : first + size]
            done += len(chunk)
            if not fast:
                time.sleep(max(0.0, begin + done / rate - time.monotonic()))
            yield chunk


class MissingMicrophoneError(Exception):
    """No microphone can be used; the text says why, and what to do."""


class Microphone:
    """Sound of an input device, mono, taken from the driver's thread through a queue.

    Args:
        library: the sounddevice module.
        device: name or number of the device, or None.
    """

    def __init__(self, library: Any, device: int | str | None) -> None:
        self._library = library
        self._device = device
        self._queue: queue.Queue[np.ndarray] = queue.Queue(MOST_WAITING)
        self._lost = 0
        self.rate = round(library.query_devices(device, "input")["default_samplerate"])

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield chunks for ever; chunks that the model is too slow for are left out, and counted aloud."""
        stream = self._library.InputStream(
            samplerate=self.rate, device=self._device, channels=1, dtype="float32",
            blocksize=round(CHUNK * self.rate), callback=self._take,
        )  # fmt: skip
        with stream:
            while True:
                yield self._queue.get()
                if self._lost:
                    lost, self._lost = self._lost, 0
                    print(f"{lost * CHUNK:.1f} s of sound are lost: the model is too slow; use a longer --hop",
                          file=sys.stderr)  # fmt: skip

    def _take(self, samples: np.ndarray, frames: int, when: Any, status: Any) -> None:
        """Keep a chunk; the driver calls this in its own thread, and uses the array again."""
        try:
            self._queue.put_nowait(samples[:, 0].copy())
        except queue.Full:
            self._lost += 1


def open_microphone(device: str | None) -> Microphone:
    """Return a microphone; raise MissingMicrophoneError without sounddevice, PortAudio or a device."""
    try:
        import sounddevice
    except ImportError:
        text = "Listening needs sounddevice: pip install sounddevice. Without a microphone, use --file."
        raise MissingMicrophoneError(text) from None
    except OSError as problem:  # sounddevice is there, and PortAudio is not
        text = f"{problem}: install PortAudio (Debian, Ubuntu: apt-get install libportaudio2), or use --file."
        raise MissingMicrophoneError(text) from None
    chosen = int(device) if device is not None and device.isdigit() else device
    try:
        return Microphone(sounddevice, chosen)
    except (ValueError, sounddevice.PortAudioError) as problem:
        text = f"{problem}: choose one with --device (python -m sounddevice lists them), or use --file."
        raise MissingMicrophoneError(text) from None


if __name__ == "__main__":
    sys.exit(main())
