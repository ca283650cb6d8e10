"""Generated descriptions of images: one line of `descriptions.jsonl` for each image."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, Field, StringConstraints, ValidationError

from bdam.data.writing import written_whole


# The name of the file, in the folder of the images or of the annotations.
DESCRIPTIONS_FILE = "descriptions.jsonl"
Kind = Literal["identity", "clothing"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# The columns of the schema that descriptions fill.
COLUMNS = tuple(f"{kind}_description" for kind in KINDS)

# Not blank, without blanks around it.
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
# A part of a whole, in (0, 1].
Share = Annotated[float, Field(gt=0, le=1)]


class Description(BaseModel):
    """
    What was written about an image, and how it came about. A file that was not written by `bdam caption` needs
    no more than `image_id` and the descriptions that there are.

    Args:
        image_id: path of the image within the image folder, with `/` between the folders.
        identity_description, clothing_description: None if no answer could be used.
        failures: by kind, why there is no description.
        model: name of the MLLM.
        prompt_version: `PROMPT_VERSION` of the prompts that it was asked with.
        style: id of the style that it was asked to write in; None for no style.
        attempts: by kind, how many answers were asked for.
        checks: by kind, what was wrong with each answer that was rejected.
        agreement: by kind and attribute, the share of the samples that agree; empty where one sample was asked for.
    """

    image_id: str
    identity_description: Text | None = None
    clothing_description: Text | None = None
    failures: dict[Kind, str] = {}
    model: str | None = None
    prompt_version: str | None = None
    style: int | None = None
    attempts: dict[Kind, int] = {}
    checks: dict[Kind, list[str]] = {}
    agreement: dict[Kind, dict[str, Share]] = {}

    def text(self, kind: Kind) -> str | None:
        """The description of one kind; None if there is none."""
        return getattr(self, f"{kind}_description")


def read_descriptions(path: Path) -> Iterator[Description]:
    """
    Yields the descriptions of a file, none if there is no such file. A last line that is not complete is left out:
    it is being written, or was when the run was killed.

    Args:
        path: a file such as `descriptions.jsonl`.

    Raises:
        ValueError: naming the file and the line that is no description, or that is not UTF-8.
    """
    if not path.is_file():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield Description.model_validate_json(line.decode("utf-8-sig"))
            except UnicodeDecodeError:
                raise ValueError(f"{path}, line {number} is not UTF-8: save the file as UTF-8.") from None
            except ValidationError as error:
                if not line.endswith(b"\n"):
                    return
                reason = error.errors()[0]
                where = ".".join(map(str, reason["loc"])) or "the line"
                raise ValueError(
                    f"{path}, line {number}: {where}: {reason['msg']}: remove the line, and its image is asked for "
                    "again."
                ) from None


def write_descriptions(path: Path, descriptions: Iterable[Description]) -> None:
    """Writes a file of descriptions, whole or not at all."""
    with written_whole(path) as aside, aside.open("w", encoding="utf-8") as file:
        file.writelines(description.model_dump_json() + "\n" for description in descriptions)


def merge_descriptions(paths: Iterable[Path]) -> list[Description]:
    """
    Joins files of descriptions.

    Args:
        paths: the files.

    Returns:
        One description per image: the one with the fewest failures, of several such the first.

    Raises:
        FileNotFoundError: naming the files that are not there.
        ValueError: as [`read_descriptions`].
    """
    paths = list(paths)
    if missing := [str(path) for path in paths if not path.is_file()]:
        raise FileNotFoundError(f"No file at {', '.join(missing)}.")
    merged: dict[str, Description] = {}
    for description in (description for path in paths for description in read_descriptions(path)):
        known = merged.setdefault(description.image_id, description)
        if len(description.failures) < len(known.failures):
            merged[description.image_id] = description
    return list(merged.values())


def count_descriptions(descriptions: Iterable[Description]) -> tuple[Counter[str], Counter[str]]:
    """
    Counts the images and the reasons of failures.

    Returns:
        How many images are `described`, and how many `failed` in one or both kinds; and how many descriptions failed
        for each reason, as `KIND: REASON`.
    """
    states: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for description in descriptions:
        states["failed" if description.failures else "described"] += 1
        reasons.update(f"{kind}: {reason.split(':')[0]}" for kind, reason in description.failures.items())
    return states, reasons
