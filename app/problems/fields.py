"""Words for what is wrong with a field: pydantic's errors, in JSON's terms and with what to send instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any, get_args

from pydantic import BaseModel

from app.problems.shown import cut, shown
from predictions.errors import FieldError

EXAMPLE = '{"input": {"prompt": "slow piano"}}'
DATASET_EXAMPLE = '{"dataset": "https://example.com/my-songs.zip"}'
UPLOAD = "send the file as the form's part `content`: curl -F content=@music.wav"

SYNONYMS = {
    **dict.fromkeys(("text", "description", "caption", "query", "prompts", "instructions"), "prompt"),
    **dict.fromkeys(("length", "seconds", "secs", "duration_seconds", "time"), "duration"),
    **dict.fromkeys(("audio", "audio_url", "melody", "melody_url", "file", "url", "clip", "input_file"), "input_audio"),
    **dict.fromkeys(("cfg", "cfg_scale", "cfg_coef", "guidance", "guidance_scale"), "classifier_free_guidance"),
    **dict.fromkeys(("format", "output_type", "extension"), "output_format"),
    **dict.fromkeys(("mbd", "multiband_diffusion"), "multi_band_diffusion"),
    **dict.fromkeys(("normalization", "normalize"), "normalization_strategy"),
    **dict.fromkeys(("random_seed", "manual_seed"), "seed"),
    **dict.fromkeys(("model", "model_version", "model_name"), "version"),
    **dict.fromkeys(("callback", "callback_url", "webhook_url", "hook"), "webhook"),
    **dict.fromkeys(("events", "webhook_events"), "webhook_events_filter"),
    **dict.fromkeys(("inputs", "data", "parameters", "params"), "input"),
}
"""What other services call the fields."""

REMEDIES = {
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "it should be an object"),
    **dict.fromkeys(
        ("int_type", "int_parsing", "int_from_float"), "it should be an integer, such as 8, without quotes"
    ),
    **dict.fromkeys(("float_type", "float_parsing"), "it should be a number, such as 0.5, without quotes"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "it should be true or false, without quotes"),
    "list_type": "it should be a list",
    "string_type": "it should be a string",
    "string_unicode": "it should be Unicode text, without half of a surrogate pair",
    "finite_number": "it should be a finite number",
}
"""By pydantic's type of error; for other types its own message is turned into ours."""


def explain(item: Mapping[str, Any], model: type[BaseModel] | None) -> FieldError:
    """Turn one of pydantic's errors into words that say what to send. `model`: the body's, where it is JSON."""
    place, kind = item["loc"], item["type"]
    field = _name(place)
    if kind == "extra_forbidden":
        return _unknown(field, place, model)
    if kind == "missing":
        return _missing(field, place, model)
    if place[0] == "body" and model is None:
        return FieldError(field, "is text and no file", UPLOAD)
    if place in (("body",), ("body", "input")):
        return FieldError(
            field, f"is {shown(item['input'])}", f"it should be an object, such as {_example(item, model)}"
        )
    return FieldError(field, f"is {shown(item['input'])}", REMEDIES.get(kind) or _remedy(item))


def model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model in an annotation such as `Model | None`; None where there is none."""
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def nearest(name: str, known: Collection[str]) -> str | None:
    """Return the known name that was most likely meant; None where none is near."""
    plain = cut(name).lower().replace("-", "_")
    if SYNONYMS.get(plain) in known:
        return SYNONYMS[plain]
    return next(iter(difflib.get_close_matches(plain, known, n=1)), None)


def misplaced(body: object, model: type[BaseModel] | None) -> bool:
    """Whether `input` is missing and its fields stand beside the place where it should be."""
    inside = _inputs(model)
    return isinstance(body, dict) and "input" not in body and any(name in body for name in inside)


def _name(place: tuple[int | str, ...]) -> str:
    """Return the field's name as clients know it: inputs without what they lie in."""
    parts = place[1:] if place[0] == "body" else place
    parts = parts[1:] if parts[:1] == ("input",) and len(parts) > 1 else parts
    return cut(".".join(cut(str(part)) for part in parts)) or "body"


def _unknown(field: str, place: tuple[int | str, ...], model: type[BaseModel] | None) -> FieldError:
    name, inside = str(place[-1]), _inputs(model)
    if place[:-1] == ("body", "input"):
        known, beside = inside, [*(model.model_fields if model else ())]
    else:
        known, beside = [*(model.model_fields if model else ())], inside
    if name in beside:
        return _in_the_wrong_place(field, name, inside)
    near = nearest(name, [*known, *beside])
    if near is None:
        return FieldError(field, "is not known", "leave it out, or correct its name")
    if near in known:
        return FieldError(field, "is not known", f"did you mean {near}?")
    return _in_the_wrong_place(field, near, inside)


def _in_the_wrong_place(field: str, meant: str, inside: Collection[str]) -> FieldError:
    if meant in inside:
        return FieldError(field, "is not known here", f'{meant} belongs inside input: {{"input": {{"{meant}": ...}}}}')
    return FieldError(field, "is not known here", f'{meant} belongs beside input: {{"input": {{...}}, "{meant}": ...}}')


def _missing(field: str, place: tuple[int | str, ...], model: type[BaseModel] | None) -> FieldError:
    if place[0] != "body":
        return FieldError(field, "is missing", "send it")
    if model is None:
        return FieldError(field, "is missing", UPLOAD)
    return FieldError(
        field, "is missing", f"send {_body_example(model)}" if place in (("body",), ("body", "input")) else "send it"
    )


def _example(item: Mapping[str, Any], model: type[BaseModel] | None) -> str:
    """Return an object that could stand there; a text in the place of `input` is most likely the prompt."""
    if item["loc"] == ("body",):
        return _body_example(model) if _inputs(model) else "{}"
    if "prompt" not in _inputs(model):
        return DATASET_EXAMPLE
    prompt = item["input"] if isinstance(item["input"], str) and item["input"] else "slow piano"
    return f'{{"prompt": {shown(prompt)}}}'


def _body_example(model: type[BaseModel] | None) -> str:
    """Return a body that the route takes: of a prediction, or of a training."""
    return f'{{"input": {DATASET_EXAMPLE}}}' if "dataset" in _inputs(model) else EXAMPLE


def _inputs(model: type[BaseModel] | None) -> list[str]:
    """Return the names of the fields inside `input`, where the body has it."""
    field = model.model_fields.get("input") if model else None
    inside = model_of(field.annotation) if field else None
    return [*inside.model_fields] if inside else []


def _remedy(item: Mapping[str, Any]) -> str:
    """Return pydantic's message as what the value should be; where it is one of a few words, the nearest of them."""
    choices = re.findall(r"'([^']*)'", str(item.get("ctx", {}).get("expected", "")))
    message = re.sub(r"^(?:Input|String|List) should", "it should", item["msg"]).removeprefix("Value error, ")
    message = re.sub(r" after validation, not .*$", "", message).replace("'", '"')
    if isinstance(item["input"], str) and (near := difflib.get_close_matches(cut(item["input"]).lower(), choices, n=1)):
        return f'{message}; did you mean "{near[0]}"?'
    return message
