"""Audio formats that are decoded, those that are recognised and refused, and limits."""

from __future__ import annotations

#: Limits on a header, checked before memory is allocated. 384 kHz and 8 channels are the largest of ordinary
#: equipment.
MIN_RATE = 1_000
MAX_RATE = 384_000
MAX_CHANNELS = 8

#: Samples that `load_audio` returns at most: one hour at 16 kHz, 230 MB.
MAX_SAMPLES = 3_600 * 16_000

#: Samples of all channels that `load_audio` decodes at most: one hour at 48 kHz with 8 channels.
MAX_DECODED = 3_600 * 48_000 * 8

#: Bytes that are read at most from an open file that cannot seek, such as a pipe.
MAX_PIPED = 1 << 30

#: Containers and sample formats that are decoded. libsndfile's other formats are rare, and some of its
#: decoders for them are unsafe (`advisories.py`) or print on standard output (SDS).
CONTAINERS = frozenset({"WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF"})
SUBTYPES = frozenset(
    {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "VORBIS", "OPUS"}
    | {"MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III", "ALAC_16", "ALAC_20", "ALAC_24", "ALAC_32"}
)

#: First bytes of `CONTAINERS`. Only such files reach libsndfile.
AUDIO_MARKS = (
    b"RIFF",
    b"RIFX",
    b"RF64",
    b"riff",
    b"fLaC",
    b"OggS",
    b"FORM",
    b".snd",
    b"dns.",
    b"caff",
    b"ID3",
)

#: First bytes of files that users pass by mistake -> (problem, fix).
NOT_AUDIO = {
    b"version https://git-lfs": ("is a git-lfs pointer, not the file it points to", "run `git lfs pull`"),
    b"<!DOCTYPE": ("is an HTML page", "download the file itself, not the page about it"),
    b"<html": ("is an HTML page", "download the file itself, not the page about it"),
    b"PK\x03\x04": ("is a zip archive", "unpack it first"),
    b"\x1f\x8b": ("is a gzip archive", "unpack it first"),
    b"{": ("looks like JSON text", "give the audio file itself"),
}

#: Magic numbers at the beginning of formats that are not decoded -> their names.
UNSUPPORTED = {
    b"\x0bw": "AC-3",
    b"MAC ": "Monkey's Audio",
    b"wvpk": "WavPack",
    b"MPCK": "Musepack",
    b"MP+": "Musepack",
    b"DSD ": "DSD",
    b"Creative Voice File": "Creative VOC",
    b"NIST_1A": "NIST SPHERE",
    b"MATLAB": "MATLAB",
    b"2BIT": "AVR",
    b"PVF1": "PVF",
    b"ajkg": "Shorten",
    b"Extended Instrument": "XI",
    b"\xf0\x7e": "MIDI sample dump",
    b"MThd": "MIDI",
    b"\x64\xa3": "IRCAM",
    b"\xa3\x64": "IRCAM",
}
