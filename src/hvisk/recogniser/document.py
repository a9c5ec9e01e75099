"""A transcript as a Word document, to be read, searched and corrected: paragraphs with the time at which each begins.

A doubtful segment, of which `guards` tells why, is highlighted.
"""

import io
import re
from collections.abc import Iterator

from hvisk.errors import require
from hvisk.recogniser.longform import Segment, Transcript

PAUSE_SECONDS = 2.0  # from which on a paragraph ends
PARAGRAPH_SECONDS = 45.0  # after which one ends with its sentence, and after twice as long in any case
INDENT_CM = 2.0  # room for 12:34:56

_NOTE = {"da": "Udskrevet af hvisk. Ikke rettet efter lyden."}
_NOTE_ENGLISH = "Transcribed by hvisk. Not corrected by ear."
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML 1.0 cannot hold


def check() -> None:
    """Raise MissingExtra where no document can be written."""
    require("docx", "docx", "write Word documents")


def to_docx(transcript: Transcript, name: str) -> bytes:
    """Return a Word document about the recording `name`: its title, name and duration, and the text with time codes.

    Raises MissingExtra without python-docx.
    """
    check()
    from docx import Document
    from docx.enum.text import WD_COLOR_INDEX
    from docx.shared import Cm, Pt, RGBColor

    document = Document()
    title = re.sub(r"(?<=.)\.\w{1,5}$", "", name)  # without the file's ending
    document.core_properties.title = _held(title)[:255]
    document.core_properties.author = "hvisk"
    document.core_properties.language = transcript.language
    document.add_heading(_held(title), level=0)
    about = f"{name} · {clock(transcript.seconds)} · {_NOTE.get(transcript.language, _NOTE_ENGLISH)}"
    document.add_paragraph(_held(about)).runs[0].italic = True
    for segments in paragraphs(transcript):
        paragraph = document.add_paragraph()
        shape = paragraph.paragraph_format
        shape.left_indent, shape.first_line_indent = Cm(INDENT_CM), Cm(-INDENT_CM)
        shape.tab_stops.add_tab_stop(Cm(INDENT_CM))
        code = paragraph.add_run(f"{clock(segments[0].start)}\t")
        code.font.size, code.font.color.rgb = Pt(9), RGBColor(0x59, 0x59, 0x59)
        for number, segment in enumerate(segments):
            run = paragraph.add_run(" " * (number > 0) + _held(" ".join(segment.text.split())))
            if segment.doubt:
                run.font.highlight_color = WD_COLOR_INDEX.YELLOW
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def paragraphs(transcript: Transcript) -> Iterator[list[Segment]]:
    """Yield the segments of each paragraph: it ends at a long pause, or with a sentence when it is long enough."""
    kept: list[Segment] = []
    for segment in transcript.segments:
        if kept:
            lasts = segment.start - kept[0].start
            whole = kept[-1].text.rstrip().endswith((".", "?", "!", "…"))
            paused = segment.start - kept[-1].end >= PAUSE_SECONDS
            if paused or (lasts >= PARAGRAPH_SECONDS and whole) or lasts >= 2 * PARAGRAPH_SECONDS:
                yield kept
                kept = []
        kept.append(segment)
    if kept:
        yield kept


def clock(seconds: float) -> str:
    """Return seconds as 1:02:03."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _held(text: str) -> str:
    return _NO_XML.sub("", text)
