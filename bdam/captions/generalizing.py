"""An MLLM replaces the words about the person in captions by slots (§III-C of the paper)."""

import asyncio
from collections import Counter
from typing import Any

from tqdm.auto import tqdm

from bdam.captions.answers import BadAnswer, read_answer
from bdam.captions.checks import REFUSAL
from bdam.captions.describing import MAX_UNANSWERED
from bdam.captions.prompts import RESPONSE_FORMAT, build_generalizing_messages
from bdam.captions.slots import generalize
from bdam.mllm.client import MLLM
from bdam.mllm.concurrency import run_concurrently
from bdam.mllm.replies import RequestError, ServerError


class Generalizer:
    """
    A generalizer of captions for [`find_styles`] that asks an MLLM, once for each distinct caption.

    Args:
        mllm: closed at the end of the call.
        concurrency: requests under way at once.
        max_attempts: requests per caption, until an answer can be used.

    `failures` counts the distinct captions without a usable answer by reason; [`generalize`] rewrites these.
    """

    def __init__(self, mllm: MLLM, concurrency: int = 16, max_attempts: int = 3):
        self.mllm = mllm
        self.concurrency = concurrency
        self.max_attempts = max_attempts
        self.failures: Counter[str] = Counter()
        self._unanswered = 0

    @property
    def settings(self) -> dict[str, Any]:
        """What to write with the styles: the model, and how many distinct captions a list of words generalized."""
        return {"generalizer": self.mllm.model, "generalized_by_words": self.failures.total()}

    def __call__(self, captions: list[str]) -> list[str]:
        """
        A text for each caption, in the same order.

        Raises:
            ServerError: if the server cannot answer anything, or no answer can be used.
        """
        texts = asyncio.run(self._generalize(list(dict.fromkeys(captions))))
        return [texts[caption] for caption in captions]

    async def _generalize(self, captions: list[str]) -> dict[str, str]:
        texts: dict[str, str] = {}
        with tqdm(total=len(captions), desc="Generalizing") as progress:

            async def add_text(caption: str) -> None:
                texts[caption] = await self._ask(caption) or generalize([caption])[0]
                progress.update()

            try:
                await run_concurrently(captions, add_text, self.concurrency)
            finally:
                await self.mllm.close()
        if self.failures.total() == len(captions):
            raise ServerError(f"The MLLM generalized no caption: {next(iter(self.failures))}.")
        return texts

    async def _ask(self, caption: str) -> str | None:
        """The caption with slots that the MLLM wrote; None if none of its answers can be used."""
        for _ in range(self.max_attempts):
            try:
                messages = build_generalizing_messages(caption)
                reply = await self.mllm.ask(messages, response_format=RESPONSE_FORMAT)
            except RequestError as error:
                reason, self._unanswered = str(error), self._unanswered + 1
                if self._unanswered >= MAX_UNANSWERED:
                    raise ServerError(f"{self._unanswered} captions in a row got no answer: {reason}.") from error
                break
            self._unanswered = 0
            try:
                text = " ".join(read_answer(reply.content, reply.is_cut).split())
            except BadAnswer as error:
                reason = str(error)
                continue
            if not REFUSAL.search(text):
                return text
            reason = "it refuses to rewrite the caption"
        self.failures[reason] += 1
        return None
