"""An archive on a cluster: `batch.transcribe`, a recording a task, and the same files byte for byte."""

import contextlib
import functools
import io
import json
import pickle
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from hvisk import audio, cluster, files
from hvisk.errors import AudioError
from hvisk.recogniser import batch, inputs
from hvisk.recogniser.batch import Options
from hvisk.recogniser.engine import Recogniser
from hvisk.terminal import Bar


def transcribe(
    recordings: Sequence[Path],
    load: Callable[[], Recogniser],
    options: Options,
    out: Path,
    console: Console,
    *,
    address: str,
    processes: int = 0,
    cores: int = 1,
    gpus: float = 0.0,
) -> list[Path]:
    """Transcribe to a file each in `out` as `batch.transcribe` does; results are told in the order in which they come.

    load: picklable, called once in each process. address and the rest: as `cluster.share_out` takes them. The recordings
    lie where every machine of the cluster finds them under the same path.
    """
    if inputs.STDIN in recordings:
        raise AudioError("The standard input of this machine cannot be shared out. Give files, folders or patterns.")
    batch.check(recordings, options, out)
    missing = [
        recording for recording in recordings if options.overwrite or not _whole(recording, options, out, console)
    ]
    if not missing:
        return []
    results = sys.stdout
    broken: list[Path] = []
    paths = [recording.absolute() for recording in missing]
    answers = cluster.share_out(
        address, paths, functools.partial(_Transcriber, load, options), processes=processes, cores=cores, gpus=gpus
    )
    with Bar(console, "transcribing") as bar, contextlib.closing(answers):
        for done, (number, answer) in enumerate(answers, start=1):
            written, told, said, whole = pickle.loads(answer)
            for name, data in written.items():
                files.write_bytes(out / name, data)
                if not options.as_json:
                    print(audio.shown(out / name), file=results, flush=True)
            for line in told.splitlines() if options.as_json else ():
                found = {**json.loads(line), "file": audio.shown(missing[number])}
                print(json.dumps(found, ensure_ascii=False), file=results, flush=True)
            console.print(said.rstrip("\n"), markup=False, soft_wrap=True)
            broken += [] if whole else [missing[number]]
            bar.update(done, len(missing), f"{done} of {len(missing)} recordings")
    return [recording for recording in recordings if recording in broken]


class _Transcriber:
    """What each process of the cluster has: a recording -> its files, what was printed, what was said, whether it was whole."""

    def __init__(self, load: Callable[[], Recogniser], options: Options) -> None:
        self.recogniser, self.options = load(), replace(options, overwrite=True)

    def __call__(self, recording: Path) -> bytes:
        told, said = io.StringIO(), io.StringIO()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(told):
            out = Path(folder)
            quiet = Console(file=said, width=10_000, highlight=False)
            broken = batch.transcribe([recording], self.recogniser, self.options, out, quiet)
            written = {path.name: path.read_bytes() for path in sorted(out.iterdir())}
        return pickle.dumps((written, told.getvalue(), said.getvalue(), not broken))


def _whole(recording: Path, options: Options, out: Path, console: Console) -> bool:
    """Whether all files of a recording are there already, which is told."""
    channels: Sequence[int | None] = (None,)
    if options.channels == "separate":
        try:
            number, _ = audio.about(recording)
        except AudioError:
            return False  # whoever transcribes it says what is wrong
        channels = range(number) if number > 1 else channels
    targets = [batch.destination(out, recording, options.form, channel) for channel in channels]
    if not all(target.exists() for target in targets):
        return False
    for target in targets:
        batch.kept(recording, target, console)
    return True
