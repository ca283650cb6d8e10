"""Asks an MLLM for the descriptions of images, checks them, asks again, and writes them to a file."""

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from bdam.captions.agreement import agreement, is_near_duplicate, most_typical
from bdam.captions.checks import check_answer
from bdam.captions.description_file import DescriptionFile
from bdam.captions.images import ImageFile, UnreadableImage, has_utf8_name, read_image_async
from bdam.captions.prompts import PROMPT_VERSION, RESPONSE_FORMAT, build_messages
from bdam.data.descriptions import KINDS, Description, Kind, read_descriptions
from bdam.mllm.client import MLLM
from bdam.mllm.concurrency import run_concurrently
from bdam.mllm.replies import RequestError, ServerError


if TYPE_CHECKING:  # it takes seconds, and a run may have no styles
    from bdam.captions.styles import Styles


# For estimates: an image of 768 pixels, the prompt and an answer; and what a server of one GPU takes for it.
TOKENS_PER_REQUEST = 1000
SECONDS_PER_REQUEST = 2.0
# The run ends when the server has answered no request for so many images in a row.
MAX_UNANSWERED = 20
SAME_WORDS = "it says what was said of another image of this person: describe this very image"


@dataclass(frozen=True)
class Options:
    """
    How images are described.

    Args:
        concurrency: requests under way at once.
        max_attempts: requests per description, until one can be used.
        samples: usable descriptions per image and kind, of which the most typical is kept.
        max_requests, max_tokens: the budget of the run; None for no limit. Images that were begun are finished.
        seed: of the styles that are drawn.
    """

    concurrency: int = 16
    max_attempts: int = 3
    samples: int = 1
    max_requests: int | None = None
    max_tokens: int | None = None
    seed: int = 0


@dataclass
class Tally:
    """
    What a run has done so far.

    Args:
        described, failed: images that it described in both kinds, and images in which a kind failed.
        described_before, failed_before: images that the file had as described or failed when the run began.
        reasons: how many descriptions failed for each reason.
        requests, tokens: requests sent, and tokens that they took.
        unanswered: images in a row without any answer.
    """

    described: int = 0
    failed: int = 0
    described_before: int = 0
    failed_before: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    tokens: int = 0
    unanswered: int = 0

    def count(self, record: Description) -> None:
        """Counts an image of this run."""
        self.failed += bool(record.failures)
        self.described += not record.failures
        self.reasons.update(record.failures.values())

    def count_before(self, record: Description) -> None:
        """Counts an image of an earlier run."""
        self.failed_before += bool(record.failures)
        self.described_before += not record.failures

    def exceeds_budget(self, options: Options) -> bool:
        """Whether the run has used all requests or all tokens that the options allow."""
        spent = ((self.requests, options.max_requests), (self.tokens, options.max_tokens))
        return any(limit is not None and count >= limit for count, limit in spent)


@dataclass
class Outcome:
    """The description of one kind that was asked for, or why there is none; see [`Description`]."""

    text: str | None = None
    failure: str | None = None
    is_answered: bool = True
    attempts: int = 0
    checks: list[str] = field(default_factory=list)
    agreement: dict[str, float] = field(default_factory=dict)


def estimate(
    images: list[ImageFile], path: Path, options: Options, retry_failed: bool = False, price: float | None = None
) -> str:
    """
    What a run will take at least, as a sentence.

    Args:
        images, path, options, retry_failed: as for [`describe_images`].
        price: of a million tokens; None to leave the cost out.
    """
    done = {record.image_id for record in read_descriptions(path) if not (retry_failed and record.failures)}
    pending = sum(image.image_id not in done for image in images)
    requests = pending * len(KINDS) * options.samples
    tokens = requests * TOKENS_PER_REQUEST
    cost = "" if price is None else f", about {tokens / 1e6 * price:,.2f} at {price:g} per million"
    minutes = requests * SECONDS_PER_REQUEST / options.concurrency / 60
    return (
        f"{pending:,} of {len(images):,} images to describe: {requests:,} requests, if each is answered well; "
        f"{tokens / 1e6:,.1f} million tokens at {TOKENS_PER_REQUEST:,} each{cost}; {minutes:,.0f} minutes at "
        f"{SECONDS_PER_REQUEST:g} s each and {options.concurrency} at once."
    )


def describe_images(
    images: list[ImageFile],
    path: Path,
    mllm: MLLM,
    styles: "Styles | None" = None,
    options: Options | None = None,
    retry_failed: bool = False,
) -> Tally:
    """
    Describes the images that the file does not know yet, and adds one line for each.

    Args:
        images: from [`find_images`].
        path: a `descriptions.jsonl`, which need not be there.
        mllm: the model that is asked; closed at the end.
        styles: the styles to write in, from [`find_styles`]; None for no style.
        options: how images are described; by default those of [`Options`].
        retry_failed: whether images that failed before are asked for again.

    Returns:
        How many images were described, how many failed and why.

    Raises:
        ValueError: if another run is writing the file, or a line of it is no description.
        ServerError: if the server cannot answer anything; what was described until then is kept.

    Example:

    ```python
    >>> from bdam.captions.describing import describe_images
    >>> from bdam.captions.images import find_images
    >>> from bdam.mllm.client import MLLM
    >>> images, path = find_images("images")
    >>> tally = describe_images(images, path, MLLM("Qwen/Qwen2.5-VL-7B-Instruct", "http://127.0.0.1:8000/v1"))
    >>> tally.described + tally.failed == len(images)
    True
    ```"""
    with DescriptionFile(path) as file:
        known = list(read_descriptions(path))
        if retry_failed:
            known = [record for record in known if not record.failures]
            file.replace(known)
        return asyncio.run(_Run(images, known, file, mllm, styles, options or Options()).describe())


class _Run:
    """One call of [`describe_images`]."""

    def __init__(
        self,
        images: list[ImageFile],
        known: list[Description],
        file: DescriptionFile,
        mllm: MLLM,
        styles: "Styles | None",
        options: Options,
    ):
        done = {record.image_id: record for record in known}
        persons = {image.image_id: image.person_id for image in images}
        self.pending = [image for image in images if image.image_id not in done]
        self.file, self.mllm, self.styles, self.options = file, mllm, styles, options
        self.tally = Tally()
        # The descriptions of the images of each person.
        self.texts: dict[int | str | None, dict[Kind, list[str]]] = defaultdict(lambda: {kind: [] for kind in KINDS})
        for image in done.keys() & persons.keys():
            self._remember(persons[image], done[image])
            self.tally.count_before(done[image])
        self.progress = tqdm(total=len(images), initial=len(images) - len(self.pending), desc="Describing")

    async def describe(self) -> Tally:
        try:
            await run_concurrently(self.pending, self._describe_image, self.options.concurrency)
        finally:
            self.progress.close()
            await self.mllm.close()
        return self.tally

    async def _describe_image(self, image: ImageFile) -> None:
        if self.tally.exceeds_budget(self.options):
            return
        style = self.styles.draw(image.image_id, self.options.seed) if self.styles else None
        outcomes = await self._ask_for_kinds(image, style.sentence if style else None)
        record = Description(
            image_id=image.image_id,
            identity_description=outcomes["identity"].text,
            clothing_description=outcomes["clothing"].text,
            failures={kind: outcome.failure for kind, outcome in outcomes.items() if outcome.failure},
            model=self.mllm.model,
            prompt_version=PROMPT_VERSION,
            style=style.id if style else None,
            attempts={kind: outcome.attempts for kind, outcome in outcomes.items()},
            checks={kind: outcome.checks for kind, outcome in outcomes.items() if outcome.checks},
            agreement={kind: outcome.agreement for kind, outcome in outcomes.items() if outcome.agreement},
        )
        if has_utf8_name(image):
            self.file.add(record)
        self._remember(image.person_id, record)
        self._count(record, any(outcome.is_answered for outcome in outcomes.values()))

    async def _ask_for_kinds(self, image: ImageFile, style: str | None) -> dict[Kind, Outcome]:
        try:
            url = await read_image_async(image)
        except UnreadableImage as error:
            return {kind: Outcome(failure=str(error)) for kind in KINDS}
        return {kind: await self._ask_for_samples(kind, image, url, style) for kind in KINDS}

    async def _ask_for_samples(self, kind: Kind, image: ImageFile, url: str, style: str | None) -> Outcome:
        """The most typical of several usable descriptions; a failure if there is none."""
        total, texts = Outcome(), []
        for _ in range(self.options.samples):
            outcome = await self._ask(kind, image, url, style)
            total.attempts += outcome.attempts
            total.checks += outcome.checks
            total.failure, total.is_answered = outcome.failure, outcome.is_answered
            texts += [outcome.text] if outcome.text else []
        if texts:
            total.text, total.failure, total.is_answered = most_typical(kind, texts), None, True
        if len(texts) > 1:
            total.agreement = agreement(kind, texts)
        return total

    async def _ask(self, kind: Kind, image: ImageFile, url: str, style: str | None) -> Outcome:
        """Asks for one description, again and again with what was wrong, until one can be used."""
        outcome = Outcome()
        rejected: list[tuple[str, list[str]]] = []
        while outcome.attempts < self.options.max_attempts:
            outcome.attempts += 1
            self.tally.requests += 1
            try:
                messages = build_messages(kind, url, style, rejected)
                reply = await self.mllm.ask(messages, response_format=RESPONSE_FORMAT)
            except RequestError as error:
                outcome.failure, outcome.is_answered = str(error), bool(rejected)
                return outcome
            self.tally.tokens += reply.tokens
            text, found = check_answer(kind, reply.content, reply.is_cut)
            problems = list(found.values())
            is_repeated = not problems and is_near_duplicate(text, self.texts[image.person_id][kind])
            if not problems and (not is_repeated or outcome.attempts == self.options.max_attempts):
                outcome.text = text  # repeated in every attempt, it may be all that there is to say
                return outcome
            problems = problems or [SAME_WORDS]
            rejected.append((text, problems))
            outcome.checks.append("; ".join(problems))
        outcome.failure = outcome.checks[-1]
        return outcome

    def _remember(self, person_id: int | str | None, record: Description) -> None:
        for kind in KINDS:
            if person_id is not None and (text := record.text(kind)):
                self.texts[person_id][kind].append(text)

    def _count(self, record: Description, is_answered: bool) -> None:
        tally = self.tally
        tally.count(record)
        tally.unanswered = 0 if is_answered else tally.unanswered + 1
        self.progress.set_postfix(failed=tally.failed, requests=tally.requests, tokens=tally.tokens, refresh=False)
        self.progress.update()
        if tally.unanswered >= MAX_UNANSWERED:
            raise ServerError(
                f"{tally.unanswered} images in a row got no answer, the last for this reason: "
                f"{next(iter(record.failures.values()))}. Mend the server, then go on with --retry-failed."
            )
