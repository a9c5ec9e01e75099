"""A model's name -> the system that it means."""

from pathlib import Path

from hvisk import models
from hvisk.errors import ModelError
from hvisk.style import Style
from hvisk.systems.system import System, parameters

PREFIXES = {
    "hf": "hf:ID_OR_DIR, any speech recogniser of Hugging Face's transformers (#no-lm after it: without its language model)",
    "faster-whisper": "faster-whisper:NAME_OR_DIR",
    "whisper.cpp": "whisper.cpp:NAME_OR_FILE",
    "openai-whisper": "openai-whisper:NAME_OR_FILE",
    "api": "api:URL#MODEL, any server with OpenAI's /v1/audio/transcriptions",
    "predictions": "predictions:FILE",
}


def open_system(
    name: str,
    *,
    language: str = "da",
    style: Style | None = None,
    beam_size: int = 1,
    threads: int = 0,
    guards: bool = True,
) -> System:
    """Open a system by its name: one of PREFIXES, else a name that `models.recognisable` takes, for hvisk's recogniser.

    language: Whisper's code; models that know one language alone are not told. style: what hvisk's recogniser is asked
    to write; others cannot be asked. beam_size 1 is greedy. threads: 0 is the
    system's own choice. guards: whether hvisk's recogniser has them, as `hvisk transcribe` does; others have none. What the
    system does with each is in its `settings`.
    Raises ModelError for what cannot be opened or was not taught the style, MissingExtra where a package is not installed.
    """
    prefix, colon, rest = name.partition(":")
    known = bool(colon) and prefix in PREFIXES
    if known and not rest.strip():
        raise ModelError(f"'{name}' names no model. Accepted: {PREFIXES[prefix]}.")
    if known and style:
        raise ModelError(f"{name} cannot be asked for a style: that is for hvisk's own recogniser. Leave out --style.")
    match prefix if known else "":
        case "hf":
            from hvisk.systems.transformers import open_transformers

            return open_transformers(rest, name, language=language, beam_size=beam_size, threads=threads)
        case "faster-whisper":
            from hvisk.systems.faster_whisper import open_faster_whisper

            return open_faster_whisper(rest, name, language=language, beam_size=beam_size, threads=threads)
        case "whisper.cpp":
            from hvisk.systems.whisper_cpp import open_whisper_cpp

            return open_whisper_cpp(rest, name, language=language, beam_size=beam_size, threads=threads)
        case "openai-whisper":
            from hvisk.systems.openai_whisper import open_openai_whisper

            return open_openai_whisper(rest, name, language=language, beam_size=beam_size, threads=threads)
        case "api":
            from hvisk.systems.endpoint import open_endpoint

            return open_endpoint(rest, name, language=language, beam_size=beam_size, threads=threads)
        case "predictions":
            from hvisk.systems.file import open_file

            return open_file(Path(rest).expanduser(), name)
        case _:
            from hvisk.export.origin import weight_files
            from hvisk.recogniser.guards import Guards
            from hvisk.systems.ours import open_directory

            directory = models.recognisable(name)
            converted = directory.is_relative_to(models.cache_directory())
            return open_directory(
                directory,
                name,
                language=language,
                style=style,
                beam_size=beam_size,
                threads=threads,
                guards=Guards() if guards else None,
                parameters=parameters(weight_files(models.hugging_face(name))) if converted else None,
            )
