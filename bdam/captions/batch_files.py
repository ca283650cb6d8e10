"""Files of requests and answers, for clusters and batch services that run the MLLM.

Their lines are those of OpenAI's Batch API, which vLLM (`vllm run-batch`) and Ray Data take as well.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tqdm.auto import tqdm

from bdam.captions.checks import check_answer
from bdam.captions.describing import Tally
from bdam.captions.description_file import DescriptionFile
from bdam.captions.images import ImageFile, UnreadableImage, read_image
from bdam.captions.prompts import PROMPT_VERSION, RESPONSE_FORMAT, build_messages
from bdam.data.descriptions import KINDS, Description, Kind, read_descriptions
from bdam.data.writing import written_whole
from bdam.mllm.replies import error_message, read_completion


if TYPE_CHECKING:  # it takes seconds, and a run may have no styles
    from bdam.captions.styles import Styles


class Answer(NamedTuple):
    """A line of a file of answers: the description, or else the problem with it."""

    place: str
    kind: Kind
    image_id: str
    text: str | None
    problem: str | None


def export_requests(
    images: list[ImageFile], path: Path, output: Path, body: dict, styles: "Styles | None" = None, seed: int = 0
) -> Tally:
    """
    Writes a request per kind for each image that the file of descriptions does not know.

    Args:
        images: from [`find_images`].
        path: a `descriptions.jsonl`, which need not be there.
        output: the file to write.
        body: model and settings of every request, as servers name them.
        styles, seed: the styles to write in, and the seed that they are drawn by; None for no style.

    Returns:
        How many requests were written, and how many images failed, and why: those that cannot be read are left out.
    """
    done = {record.image_id for record in read_descriptions(path)}
    pending = [image for image in images if image.image_id not in done]
    tally = Tally()
    with written_whole(output) as aside, aside.open("w", encoding="utf-8") as file:
        for image in tqdm(pending, desc="Writing requests"):
            style = styles.draw(image.image_id, seed).sentence if styles else None
            try:
                url = read_image(image)
            except UnreadableImage as error:
                tally.failed += 1
                tally.reasons[f"{image.image_id!r}: {error}"] += 1
                continue
            for kind in KINDS:
                messages = build_messages(kind, url, style, rejected=[])
                request = {
                    "custom_id": f"{kind}:{image.image_id}",
                    "method": "POST",
                    "url": "/v1/chat/completions",
                    "body": {**body, "messages": messages, "response_format": RESPONSE_FORMAT},
                }
                file.write(json.dumps(request) + "\n")
                tally.requests += 1
    return tally


def import_answers(
    answers: Path, images: list[ImageFile], path: Path, model: str, styles: "Styles | None" = None, seed: int = 0
) -> Tally:
    """
    Checks the answers of a batch and adds them to a file of descriptions, which keeps those that it has.

    Args:
        answers: the file that the batch wrote.
        images: those of the requests, from [`find_images`].
        path: a `descriptions.jsonl`, which need not be there.
        model: name of the MLLM that answered.
        styles, seed: those that the requests were written with.

    Returns:
        How many images were described, and how many failed and why.

    Raises:
        ValueError: if there are no answers; naming the line that is no answer, or answers for an image that is not
            among the images.
    """
    by_image: dict[str, dict[Kind, Answer]] = defaultdict(dict)
    image_ids = {image.image_id for image in images}
    for answer in _read_answers(answers):
        if answer.image_id not in image_ids:
            raise ValueError(
                f"{answers}, {answer.place}: no image {answer.image_id!r} in the data: give the data of the requests."
            )
        by_image[answer.image_id][answer.kind] = answer
    if not by_image:
        raise ValueError(f"{answers} holds no answers: give the file that the batch wrote.")
    tally = Tally()
    with DescriptionFile(path) as file:
        done = {record.image_id: record for record in read_descriptions(path)}
        for image_id in done.keys() & by_image.keys():
            tally.count_before(done[image_id])
        for image_id in (image_id for image_id in by_image if image_id not in done):
            style = styles.draw(image_id, seed).id if styles else None
            record = _join_answers(image_id, by_image[image_id], model, style)
            file.add(record)
            tally.count(record)
    return tally


def _join_answers(image_id: str, answers: dict[Kind, Answer], model: str, style: int | None) -> Description:
    missing = {kind: Answer("", kind, image_id, None, "the batch has no answer") for kind in KINDS}
    by_kind = missing | answers
    return Description(
        image_id=image_id,
        identity_description=by_kind["identity"].text,
        clothing_description=by_kind["clothing"].text,
        failures={kind: answer.problem for kind, answer in by_kind.items() if answer.problem},
        model=model,
        prompt_version=PROMPT_VERSION,
        style=style,
        attempts=dict.fromkeys(answers, 1),
    )


def _read_answers(path: Path) -> Iterator[Answer]:
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                answer = json.loads(line)
                kind, _, image_id = answer["custom_id"].partition(":")
                kind = next(known for known in KINDS if known == kind)
            except (ValueError, RecursionError, KeyError, TypeError, AttributeError, StopIteration):
                raise ValueError(
                    f"{path}, line {number}: no answer to a request of ours: give the file that the batch wrote."
                ) from None
            yield Answer(f"line {number}", kind, image_id, *_check_line(kind, answer))


def _check_line(kind: Kind, answer: dict[str, Any]) -> tuple[str | None, str | None]:
    """The description in a line, or the problem with it."""
    response = answer.get("response")
    body = response.get("body") if isinstance(response, dict) else None
    try:
        reply = read_completion(body)
    except ValueError as error:
        reason = error_message(answer["error"]) if answer.get("error") else error
        return None, f"the batch answered: {reason}"
    text, problems = check_answer(kind, reply.content, reply.is_cut)
    return (None, "; ".join(problems.values())) if problems else (text, None)
