"""Requests as a file, answers as a file: for clusters and batch services that do the work elsewhere.

The lines are those of OpenAI's Batch API, which vLLM (`vllm run-batch`) and Ray Data take as well.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from bdam.captions.checks import judge
from bdam.captions.client import RESPONSE_FORMAT, error_message, read_completion
from bdam.captions.describing import ImageFile, Tally, UnreadableImage, read_image
from bdam.captions.description_file import DescriptionFile
from bdam.captions.prompts import PROMPT_VERSION, build_messages
from bdam.data.descriptions import KINDS, Description, Kind, read_descriptions
from bdam.data.writing import written_whole


if TYPE_CHECKING:  # it takes seconds, and a run may have no styles
    from bdam.captions.styles import Styles


def export_requests(
    images: list[ImageFile], path: Path, output: Path, body: dict, styles: "Styles | None" = None, seed: int = 0
) -> Tally:
    """
    Writes two requests for each image that `path`, a `descriptions.jsonl`, does not know, and counts them. An image
    that cannot be read is left out, and counted as failed.

    Args:
        body: model and settings of every request, as [`MLLM`] has them.
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
    Checks the answers of a batch and adds them to `path`, a `descriptions.jsonl`, image by image; those that it
    knows already are left as they are. Counts the images that were described, and that failed.

    Raises:
        ValueError: if there are no answers; naming the line that is no answer, or answers for an image that is not
            there.
    """
    texts: dict[str, dict[Kind, tuple[str | None, str | None]]] = defaultdict(dict)
    known_images = {image.image_id for image in images}
    for place, kind, image, text, problem in _read_answers(answers):
        if image not in known_images:
            raise ValueError(f"{answers}, {place}: no image {image!r} in the data: give the data of the requests.")
        texts[image][kind] = (text, problem)
    if not texts:
        raise ValueError(f"{answers} holds no answers: give the file that the batch wrote.")
    tally = Tally()
    with DescriptionFile(path) as file:
        done = {record.image_id: record for record in read_descriptions(path)}
        for image in done.keys() & texts.keys():
            tally.count_before(done[image])
        for image in (image for image in texts if image not in done):
            of_kind = {kind: texts[image].get(kind, (None, "the batch has no answer")) for kind in KINDS}
            record = Description(
                image_id=image,
                identity_description=of_kind["identity"][0],
                clothing_description=of_kind["clothing"][0],
                failures={kind: problem for kind, (_, problem) in of_kind.items() if problem},
                model=model,
                prompt_version=PROMPT_VERSION,
                style=styles.draw(image, seed).id if styles else None,
                attempts=dict.fromkeys(texts[image], 1),
            )
            file.add(record)
            tally.count(record)
    return tally


def _read_answers(path: Path) -> Iterator[tuple[str, Kind, str, str | None, str | None]]:
    """Place, kind, image, and either the description or what is wrong."""
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                answer = json.loads(line)
                kind, _, image = answer["custom_id"].partition(":")
                kind = next(known for known in KINDS if known == kind)
            except (ValueError, RecursionError, KeyError, TypeError, AttributeError, StopIteration):
                raise ValueError(
                    f"{path}, line {number}: no answer to a request of ours: give the file that the batch wrote."
                ) from None
            yield f"line {number}", kind, image, *_judge_answer(kind, answer)


def _judge_answer(kind: Kind, answer: dict[str, Any]) -> tuple[str | None, str | None]:
    response = answer.get("response")
    body = response.get("body") if isinstance(response, dict) else None
    try:
        reply = read_completion(body)
    except ValueError as error:
        reason = error_message(answer["error"]) if answer.get("error") else error
        return None, f"the batch answered: {reason}"
    text, problems = judge(kind, reply.content, reply.is_cut)
    return (None, "; ".join(problems.values())) if problems else (text, None)
