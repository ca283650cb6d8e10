# Copyright 2026 The BDAM authors.
# SPDX-License-Identifier: Apache-2.0
"""The processor of BDAM, which makes the inputs of the model from images and texts."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
from PIL import ExifTags, Image, ImageOps
from transformers import BatchFeature, ProcessorMixin
from transformers.image_utils import ImageInput
from transformers.processing_utils import ProcessingKwargs


def to_upright_rgb(image: Image.Image) -> Image.Image:
    """
    An image as the model is to see it: turned as its EXIF orientation says, in RGB, 8 bits per channel, transparent
    parts on white.

    Raises:
        Exception: whatever Pillow raises for an image that is damaged, or of a mode that it cannot convert.
    """
    has_16_bits = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    image.load()
    with suppress(Exception):  # damaged EXIF data: the image is as it lies
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or has_16_bits:
        image = _to_8_bits(image, 65535 if has_16_bits else None)
    if image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    return image.convert("RGB")


def _to_8_bits(image: Image.Image, white: float | None) -> Image.Image:
    """Scales gray values to 8 bits, `white` being the largest one; None guesses it by the values."""
    values = np.nan_to_num(np.asarray(image).astype(np.float32))
    if white is None:
        largest = float(values.max())
        likely = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
        white = next((value for value in likely if largest <= value), largest)
    return Image.fromarray((values.clip(0, white) * (255 / white)).round().astype(np.uint8))


# The arguments of the processor that are texts, and what their fields begin with.
PREFIXES = {
    "text": "",
    "identity_text": "identity_",
    "clothing_text": "clothing_",
}


class BDAMProcessorKwargs(ProcessingKwargs, total=False):
    _defaults = {"text_kwargs": {"truncation": True, "return_token_type_ids": False}}  # type: ignore[misc]


class BDAMProcessor(ProcessorMixin):
    r"""
    Combines an image processor and a tokenizer of any architecture.

    Args:
        image_processor (`BaseImageProcessor`): resizes and normalizes images.
        tokenizer (`PreTrainedTokenizerBase`): splits texts into tokens.
        text_padding (`str`): how far texts are padded unless a call says otherwise: to the longest of a batch
            (`"longest"`), or to `tokenizer.model_max_length` (`"max_length"`), as SigLIP was trained.

    Example:

    ```python
    >>> from bdam import BDAMProcessor, load_data
    >>> processor = BDAMProcessor.from_pretrained("outputs/demo/model")
    >>> images = load_data("outputs/demo/pedestrians")["test"]["image"][:8]
    >>> inputs = processor(images=images, text="A tall man in a red coat.", return_tensors="pt")
    >>> inputs["pixel_values"].shape
    torch.Size([8, 3, 128, 64])
    ```"""

    valid_processor_kwargs = BDAMProcessorKwargs

    def __init__(self, image_processor=None, tokenizer=None, text_padding: str = "longest", **kwargs):
        super().__init__(image_processor, tokenizer)
        self.text_padding = text_padding

    def __call__(
        self,
        images: ImageInput | None = None,
        text: str | Sequence[str] | None = None,
        identity_text: str | Sequence[str | None] | None = None,
        clothing_text: str | Sequence[str] | None = None,
        **kwargs,
    ) -> BatchFeature:
        r"""
        Args:
            images: images, as PIL images (which [`to_upright_rgb`] prepares), arrays or tensors. → `pixel_values`
            text: queries. → `input_ids`, `attention_mask`
            identity_text: identity descriptions of the images; None stands for an image without one, whose row of
                the mask is zero. → `identity_input_ids`, `identity_attention_mask`
            clothing_text: clothing descriptions of the images. → `clothing_input_ids`, `clothing_attention_mask`
            kwargs: for the image processor (`size`, `do_normalize`, …) and the tokenizer (`padding`, `truncation`,
                `max_length`, …); texts are padded and truncated unless told otherwise. `return_tensors` is for both.

        Raises:
            ValueError: if nothing is given, or a text is empty.
        """
        if images is None and text is None and identity_text is None and clothing_text is None:
            raise ValueError("Give at least one of `images`, `text`, `identity_text` and `clothing_text`.")
        kwargs = self._merge_kwargs(BDAMProcessorKwargs, **kwargs)  # type: ignore[arg-type]
        kwargs["text_kwargs"].setdefault("padding", self.text_padding)
        data = {}
        if images is not None:
            data.update(self.image_processor(_prepare(images), **kwargs["images_kwargs"]))
        texts = {"text": text, "identity_text": identity_text, "clothing_text": clothing_text}
        for name, given in texts.items():
            if given is not None:
                given = [given] if isinstance(given, str) else list(given)
                _check(name, given, allows_none=name == "identity_text")
                # Some encoders see their padding, such as SigLIP: their tokenizers return no mask unless asked to.
                filled = [sentence or "" for sentence in given]
                tokens = self.tokenizer(filled, return_attention_mask=True, **kwargs["text_kwargs"])
                data.update(self._name_fields(name, tokens, given))
        return BatchFeature(data, tensor_type=kwargs["text_kwargs"].get("return_tensors"))

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        r"""
        The token ids of sentences, cut at `tokenizer.model_max_length`, for [`pad`]: a text may be in many batches.

        Raises:
            ValueError: if a text is empty.
        """
        _check("texts", texts)
        return self.tokenizer(list(texts), truncation=True)["input_ids"] if texts else []

    def pad(
        self,
        text: Sequence[Sequence[int]] | None = None,
        identity_text: Sequence[Sequence[int] | None] | None = None,
        clothing_text: Sequence[Sequence[int]] | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        r"""The fields that `__call__` makes of these texts, from their token ids by [`tokenize`]."""
        data = {}
        absent = self.tokenizer("")["input_ids"]
        texts = {"text": text, "identity_text": identity_text, "clothing_text": clothing_text}
        for name, given in texts.items():
            if given is not None:
                ids = {"input_ids": [absent if row is None else row for row in given]}
                tokens = self.tokenizer.pad(ids, self.text_padding, return_attention_mask=True)
                data.update(self._name_fields(name, tokens, given))
        return BatchFeature(data, tensor_type=return_tensors)

    @property
    def model_input_names(self) -> list[str]:
        keys = ("input_ids", "attention_mask")
        text_names = [f"{prefix}{key}" for prefix in PREFIXES.values() for key in keys]
        return [*self.image_processor.model_input_names, *text_names]

    def _name_fields(self, name: str, tokens: Mapping, texts: Sequence) -> dict:
        """
        The tokens under the names of the model's fields. The mask is 0 for a text that is None. If the tokenizer has
        no mask, it is 1 for all other texts, padding included.
        """
        is_masked = "attention_mask" in self.tokenizer.model_input_names
        mask = tokens["attention_mask"]
        for index, text in enumerate(texts):
            if text is None or not is_masked:
                value = int(text is not None)
                mask[index] = [value] * len(mask[index]) if isinstance(mask, list) else mask[index] * 0 + value
        return {f"{PREFIXES[name]}{key}": value for key, value in tokens.items()}


def _check(name: str, texts: Sequence[str | None], allows_none: bool = False) -> None:
    for index, text in enumerate(texts):
        is_sentence = isinstance(text, str) and text.strip()
        if not is_sentence and not (text is None and allows_none):
            raise ValueError(f"`{name}[{index}]` must be a sentence, got {text!r}.")


def _prepare(images):
    if isinstance(images, Image.Image):
        return to_upright_rgb(images)
    return [_prepare(image) for image in images] if isinstance(images, list | tuple) else images


BDAMProcessor.register_for_auto_class()

__all__ = ["BDAMProcessor", "to_upright_rgb"]
