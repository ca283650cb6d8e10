"""Images → records of descriptions: asked for, checked, asked for again, written down."""

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tqdm.auto import tqdm

from bdam.captions.checks import agreement, is_near_duplicate, judge, most_typical
from bdam.captions.client import MLLM, RequestError, ServerError
from bdam.captions.description_file import DescriptionFile
from bdam.captions.images import image_url
from bdam.captions.prompts import PROMPT_VERSION, build_messages
from bdam.data.benchmarks import parse_benchmark, read_listing
from bdam.data.descriptions import DESCRIPTIONS_FILE, KINDS, Description, Kind, read_descriptions
from bdam.data.images import ImageError, find_image, list_images


if TYPE_CHECKING:  # it takes seconds, and a run may have no styles
    from bdam.captions.styles import Styles


# For estimates: an image of 768 pixels, the prompt and an answer; and what a server of one GPU takes for it.
TOKENS_PER_REQUEST = 1000
SECONDS_PER_REQUEST = 2.0
# Images in a row that the server fails to answer, before the run gives up.
MAX_SILENCE = 20
# Bytes of an image that is read within a millisecond or so.
SMALL = 100_000
Item = TypeVar("Item")
SAME_WORDS = "it says what was said of another image of this person: describe this very image"


class UnreadableImage(ValueError):
    """An image that cannot be read, and so cannot be sent to a server."""


@dataclass(frozen=True)
class ImageFile:
    """An image to be described, and who is on it; None where nobody knows."""

    image_id: str
    path: Path
    person: Any = None


@dataclass(frozen=True)
class Options:
    """
    How to ask.

    Args:
        concurrency: how many requests are under way at once.
        max_attempts: how often a description is asked for, until one can be used.
        samples: how many usable descriptions are asked for, of which the most typical is kept.
        max_requests, max_tokens: the budget of the run; None for no limit.
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
        described, failed: images with both descriptions, and images without.
        described_before, failed_before: those of the images that it found described or failed.
        reasons: why descriptions failed, and how many for each reason.
        requests, tokens: sent, and taken by them.
        silent: images in a row without any answer.
    """

    described: int = 0
    failed: int = 0
    described_before: int = 0
    failed_before: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    tokens: int = 0
    silent: int = 0

    def count(self, record: Description) -> None:
        self.failed += bool(record.failures)
        self.described += not record.failures
        self.reasons.update(record.failures.values())

    def count_before(self, record: Description) -> None:
        self.failed_before += bool(record.failures)
        self.described_before += not record.failures

    def exhausts(self, options: Options) -> bool:
        spent = ((self.requests, options.max_requests), (self.tokens, options.max_tokens))
        return any(limit is not None and count >= limit for count, limit in spent)


@dataclass
class Outcome:
    """How the description of one kind came about."""

    text: str | None = None
    failure: str | None = None
    is_answered: bool = True
    attempts: int = 0
    checks: list[str] = field(default_factory=list)
    agreement: dict[str, float] = field(default_factory=dict)


def find_images(source: str) -> tuple[list[ImageFile], Path]:
    """
    The images of a benchmark, `NAME:ROOT`, or of a folder with its sub-folders, and the file for their descriptions.

    Raises:
        FileNotFoundError: if there is no such folder, or no image in it.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir() and ":" in source:
        listing = read_listing(*parse_benchmark(source))
        images = [
            ImageFile(record.image_id, listing.images / record.image_id, record.person_id)
            for record in listing.records
        ]
        return images, listing.descriptions
    if not folder.is_dir():
        raise FileNotFoundError(f"No folder at {source}: give one with images, or a benchmark as NAME:ROOT.")
    paths = list_images(folder)
    return [ImageFile(path.relative_to(folder).as_posix(), path) for path in paths], folder / DESCRIPTIONS_FILE


def take_shard(images: list[ImageFile], path: Path, shard: str | None) -> tuple[list[ImageFile], Path]:
    """The images of shard `I/N` (1/4, …, 4/4), and a file of its own for them; [`merge_records`] joins the files."""
    if shard is None:
        return images, path
    index, _, count = shard.partition("/")
    if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise ValueError(f"--shard must be I/N with I from 1 to N, such as 1/4, got {shard!r}.")
    return images[int(index) - 1 :: int(count)], path.with_name(f"{path.stem}.{index}-of-{count}{path.suffix}")


def estimate(
    images: list[ImageFile], path: Path, options: Options, retry_failed: bool = False, price: float | None = None
) -> str:
    """
    What a run will take at least, in a sentence.

    Args:
        price: of a million tokens.
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
    Describes the images that the file does not know yet, each in one record.

    Args:
        path: a `descriptions.jsonl`, which is added to.
        retry_failed: whether images that failed before are asked for again.

    Raises:
        ValueError: if another run is writing the file, or a line of it is no record.
        ServerError: if the server cannot answer anything; what was described until then is kept.

    Example:

    ```python
    >>> images, path = find_images("images/")
    >>> tally = describe_images(images, path, MLLM("Qwen/Qwen2.5-VL-7B-Instruct", "http://127.0.0.1:8000/v1"))
    ```"""
    with DescriptionFile(path) as file:
        known = list(read_descriptions(path))
        if retry_failed:
            known = [record for record in known if not record.failures]
            file.replace(known)
        return asyncio.run(_Run(images, known, file, mllm, styles, options or Options()).work())


async def run_concurrently(items: Iterable[Item], work: Callable[[Item], Awaitable[None]], concurrency: int) -> None:
    """
    Awaits `work(item)` for each item, in order of their start, for up to `concurrency` items at once.

    Raises:
        Exception: the first one that `work` raises; no further item is begun, and those under way are canceled.
    """
    queue = iter(items)

    async def work_on_queue() -> None:
        for item in queue:
            await work(item)

    workers = [asyncio.create_task(work_on_queue()) for _ in range(concurrency)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()


class _Run:
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
        persons = {image.image_id: image.person for image in images}
        self.pending = [image for image in images if image.image_id not in done]
        self.file, self.mllm, self.styles, self.options = file, mllm, styles, options
        self.tally = Tally()
        # What was said of the images of each person.
        self.said: dict[Any, dict[Kind, list[str]]] = defaultdict(lambda: {kind: [] for kind in KINDS})
        for image in done.keys() & persons.keys():
            self._remember(persons[image], done[image])
            self.tally.count_before(done[image])
        self.progress = tqdm(total=len(images), initial=len(images) - len(self.pending), desc="Describing")

    async def work(self) -> Tally:
        try:
            await run_concurrently(self.pending, self._take, self.options.concurrency)
        finally:
            self.progress.close()
            await self.mllm.close()
        return self.tally

    async def _take(self, image: ImageFile) -> None:
        if self.tally.exhausts(self.options):
            return
        style = self.styles.draw(image.image_id, self.options.seed) if self.styles else None
        outcomes = await self._describe(image, style.sentence if style else None)
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
        if _is_text(image.image_id):
            self.file.add(record)
        self._remember(image.person, record)
        self._count(record, any(outcome.is_answered for outcome in outcomes.values()))

    async def _describe(self, image: ImageFile, style: str | None) -> dict[Kind, Outcome]:
        try:
            url = await _read(image)
        except UnreadableImage as error:
            return {kind: Outcome(failure=str(error)) for kind in KINDS}
        return {kind: await self._ask_for_samples(kind, image, url, style) for kind in KINDS}

    async def _ask_for_samples(self, kind: Kind, image: ImageFile, url: str, style: str | None) -> Outcome:
        """The most typical of several usable descriptions; a failure if there is none."""
        whole, texts = Outcome(), []
        for _ in range(self.options.samples):
            outcome = await self._ask(kind, image, url, style)
            whole.attempts += outcome.attempts
            whole.checks += outcome.checks
            whole.failure, whole.is_answered = outcome.failure, outcome.is_answered
            texts += [outcome.text] if outcome.text else []
        if texts:
            whole.text, whole.failure, whole.is_answered = most_typical(kind, texts), None, True
        if len(texts) > 1:
            whole.agreement = agreement(kind, texts)
        return whole

    async def _ask(self, kind: Kind, image: ImageFile, url: str, style: str | None) -> Outcome:
        """Asks for one description, again and again with what was wrong, until it can be used."""
        outcome = Outcome()
        rejected: list[tuple[str, list[str]]] = []
        while outcome.attempts < self.options.max_attempts:
            outcome.attempts += 1
            self.tally.requests += 1
            try:
                reply = await self.mllm.ask(build_messages(kind, url, style, rejected))
            except RequestError as error:
                outcome.failure, outcome.is_answered = str(error), bool(rejected)
                return outcome
            self.tally.tokens += reply.tokens
            text, found = judge(kind, reply.content, reply.is_cut)
            problems = list(found.values())
            is_repeated = not problems and is_near_duplicate(text, self.said[image.person][kind])
            if not problems and (not is_repeated or outcome.attempts == self.options.max_attempts):
                outcome.text = text  # what is repeated time and again may be all that there is to say
                return outcome
            problems = problems or [SAME_WORDS]
            rejected.append((text, problems))
            outcome.checks.append("; ".join(problems))
        outcome.failure = outcome.checks[-1]
        return outcome

    def _remember(self, person: Any, record: Description) -> None:
        for kind in KINDS:
            if person is not None and (text := record.text(kind)):
                self.said[person][kind].append(text)

    def _count(self, record: Description, is_answered: bool) -> None:
        tally = self.tally
        tally.count(record)
        tally.silent = 0 if is_answered else tally.silent + 1
        self.progress.set_postfix(failed=tally.failed, requests=tally.requests, tokens=tally.tokens, refresh=False)
        self.progress.update()
        if tally.silent >= MAX_SILENCE:
            raise ServerError(
                f"{tally.silent} images in a row got no answer, the last for this reason: "
                f"{next(iter(record.failures.values()))}. Mend the server, then go on with --retry-failed."
            )


def read_image(image: ImageFile) -> str:
    """
    The [`image_url`] of an image.

    Raises:
        UnreadableImage: whatever is wrong with the file.
    """
    if not _is_text(image.image_id):
        raise UnreadableImage(f"the name {image.image_id!r} is no UTF-8: rename the file")
    try:
        return image_url(image.path)
    except (ImageError, OSError) as error:
        reason = error.reason if isinstance(error, ImageError) else error.strerror
        raise UnreadableImage(f"the image cannot be read: {reason}") from error


def _is_text(name: str) -> bool:
    """Whether a file of records can hold a name, as it cannot what an older system wrote in another encoding."""
    return not re.search("[\ud800-\udfff]", name)


async def _read(image: ImageFile) -> str:
    """The same. A small image takes longer to hand to a thread, and back, than to read."""
    file = find_image(image.path)
    if file.is_file() and file.stat().st_size > SMALL:
        return await asyncio.to_thread(read_image, image)
    return read_image(image)
