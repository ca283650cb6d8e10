"""Requests as a file, answers as a file: for clusters and batch services that do the work elsewhere.

The lines are those of OpenAI's Batch API, which vLLM (`vllm run-batch`) and Ray Data take as well.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tqdm.auto import tqdm

from bdam.captions.checks import judge
from bdam.captions.client import RESPONSE_FORMAT, read_completion
from bdam.captions.describing import Picture
from bdam.captions.pictures import picture_url
from bdam.captions.prompts import KINDS, PROMPT_VERSION, Kind, build_messages
from bdam.captions.records import DescribedPicture, DescriptionFile, read_records
from bdam.captions.styles import Styles
from bdam.data.writing import written_whole


def export_requests(
    pictures: list[Picture], path: Path, output: Path, body: dict, styles: Styles | None = None, seed: int = 0
) -> int:
    """
    Writes two requests for each picture that `path`, a `descriptions.jsonl`, does not know, and returns how many.

    Args:
        body: model and settings of every request, as [`MLLM`] has them.
    """
    done = {record.image for record in read_records(path)}
    pending = [picture for picture in pictures if picture.image not in done]
    with written_whole(output) as aside, aside.open("w", encoding="utf-8") as file:
        for picture in tqdm(pending, desc="Writing requests"):
            style = styles.draw(picture.image, seed).sentence if styles else None
            url = picture_url(picture.path)
            for kind in KINDS:
                messages = build_messages(kind, url, style, rejected=[])
                request = {
                    "custom_id": f"{kind}:{picture.image}",
                    "method": "POST",
                    "url": "/v1/chat/completions",
                    "body": {**body, "messages": messages, "response_format": RESPONSE_FORMAT},
                }
                file.write(json.dumps(request) + "\n")
    return len(pending) * len(KINDS)


def import_answers(
    answers: Path, pictures: list[Picture], path: Path, model: str, styles: Styles | None = None, seed: int = 0
) -> tuple[int, int]:
    """
    Checks the answers of a batch and adds them to `path`, a `descriptions.jsonl`, picture by picture; those that it
    knows already are left as they are. Returns how many pictures were described, and how many failed.

    Raises:
        ValueError: naming the line that is no answer, or answers for a picture that is not there.
    """
    texts: dict[str, dict[Kind, tuple[str | None, str | None]]] = defaultdict(dict)
    known_images = {picture.image for picture in pictures}
    for place, kind, image, text, problem in _read_answers(answers):
        if image not in known_images:
            raise ValueError(f"{answers}, {place}: no picture {image!r} in the data: give the data of the requests.")
        texts[image][kind] = (text, problem)
    counts = {True: 0, False: 0}
    with DescriptionFile(path) as file:
        done = {record.image for record in read_records(path)}
        for image in (image for image in texts if image not in done):
            of_kind = {kind: texts[image].get(kind, (None, "the batch has no answer")) for kind in KINDS}
            record = DescribedPicture(
                image=image,
                identity_description=of_kind["identity"][0],
                clothing_description=of_kind["clothing"][0],
                failures={kind: problem for kind, (_, problem) in of_kind.items() if problem},
                model=model,
                prompt_version=PROMPT_VERSION,
                style=styles.draw(image, seed).id if styles else None,
                attempts=dict.fromkeys(texts[image], 1),
            )
            file.add(record)
            counts[not record.failures] += 1
    return counts[True], counts[False]


def _read_answers(path: Path) -> Iterator[tuple[str, Kind, str, str | None, str | None]]:
    """Place, kind, image, and either the description or what is wrong."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                answer = json.loads(line)
                kind, _, image = answer["custom_id"].partition(":")
                kind = next(known for known in KINDS if known == kind)
            except (json.JSONDecodeError, KeyError, TypeError, AttributeError, StopIteration):
                raise ValueError(
                    f"{path}, line {number}: no answer to a request of ours: give the file that the batch wrote."
                ) from None
            yield f"line {number}", kind, image, *_judge_answer(kind, answer)


def _judge_answer(kind: Kind, answer: dict) -> tuple[str | None, str | None]:
    response = answer.get("response") or {}
    try:
        reply = read_completion(response.get("body"))
    except ValueError:
        reason = answer.get("error") or response.get("status_code") or "nothing"
        return None, f"the batch answered: {json.dumps(reason)}"
    text, problems = judge(kind, reply.content, reply.is_cut)
    return (None, "; ".join(problems.values())) if problems else (text, None)
