"""What an audio file says of its origin: its tags, read by ffmpeg, and its manifest, read by c2pa."""

from __future__ import annotations

import io
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import c2pa

from musicgen_core.audio.ffmpeg import ffmpeg_path
from musicgen_core.options import OutputFormat


def tags_of(path: Path) -> dict[str, str]:
    """The tags by their names in capitals, which Vorbis comments do not tell apart; `encoder` is ffmpeg's own."""
    command = [ffmpeg_path(), "-hide_banner", "-loglevel", "error", "-i", str(path), "-f", "ffmetadata", "-"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = re.split(r"(?<!\\)\n", text.removeprefix(";FFMETADATA1\n").rstrip("\n"))
    pairs = [re.split(r"(?<!\\)=", line, maxsplit=1) for line in lines]
    told = {name.upper(): re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL) for name, value in pairs}
    del told["ENCODER"]
    return told


def manifest_of(content: bytes, output_format: OutputFormat) -> tuple[str, dict[str, Any]]:
    """What the reader says of the file's validity, and its manifest."""
    with c2pa.Reader(output_format.content_type, io.BytesIO(content)) as reader:
        found = json.loads(reader.json())
    return found["validation_state"], found["manifests"][found["active_manifest"]]
