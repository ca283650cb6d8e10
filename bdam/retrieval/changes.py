"""Comparison of images with those of a gallery: which are new, changed or moved."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bdam.data.images import name_some
from bdam.retrieval.stores.base import ImageState, Store


@dataclass(frozen=True)
class Comparison:
    """
    How images differ from those of a gallery; each is given by its position among the images compared.

    Args:
        new: those that the gallery does not have.
        changed: those whose content or identity description is another than in the gallery.
        moved: position → id in the gallery, of those with the same content but another path, id or stamp.
    """

    new: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    moved: dict[int, str] = field(default_factory=dict)

    @property
    def to_embed(self) -> list[int]:
        """The positions of the new and the changed images, sorted."""
        return sorted([*self.new, *self.changed])


@dataclass(frozen=True)
class Addition:
    """
    What [`Gallery.add`] did.

    Args:
        added: number of images that are new or have changed.
        moved: number of images that kept their vector under another path or id.
        left_out: image id → reason, of those that cannot be read.
    """

    added: int = 0
    moved: int = 0
    left_out: dict[str, str] = field(default_factory=dict)

    def reasons(self) -> list[str]:
        """A line for each reason why images were left out, with the ids of some of them."""
        image_ids = defaultdict(list)
        for image_id, reason in self.left_out.items():
            image_ids[reason].append(image_id)
        return [f"{len(group):,} cannot be read ({reason}): {name_some(group)}" for reason, group in image_ids.items()]


def compare(store: Store, images: Mapping[str, ImageState], content: Callable[[str], int]) -> Comparison:
    """
    How images differ from those of a store. Equal stamps and paths are equal images; otherwise content decides.

    Args:
        store: of the gallery.
        images: image id → its state, whose `content` is not used.
        content: function of an image id that reads the image and returns the digest of its content.

    Raises:
        ValueError: if an image has the id of another one of the store whose file still exists.
    """
    known = store.states(images.keys())
    earlier_ids = store.ids_by_stamp({new.stamp for image_id, new in images.items() if image_id not in known})
    earlier = store.states(earlier_ids.values())
    comparison = Comparison()
    for position, (image_id, new) in enumerate(images.items()):
        if image_id not in known:
            earlier_id = earlier_ids.pop(new.stamp, None)
            if (
                earlier_id is not None
                and _is_deleted(earlier[earlier_id])
                and content(image_id) == earlier[earlier_id].content
            ):
                comparison.moved[position] = earlier_id
            else:
                comparison.new.append(position)
        elif new.identity_description != known[image_id].identity_description:
            comparison.changed.append(position)
        elif (new.stamp, new.path) != (known[image_id].stamp, known[image_id].path):
            is_same = content(image_id) == known[image_id].content
            _compare_known(comparison, position, image_id, new, known[image_id], is_same)
    return comparison


def _compare_known(
    comparison: Comparison, position: int, image_id: str, new: ImageState, known: ImageState, is_same: bool
) -> None:
    """Enters an image that the store has with another stamp or path."""
    if new.path and known.path and new.path != known.path and not _is_deleted(known):
        if not is_same:
            raise ValueError(f"Both {known.path} and {new.path} are named {image_id}: index a folder that holds both.")
    elif is_same:
        comparison.moved[position] = image_id
    else:
        comparison.changed.append(position)


def _is_deleted(state: ImageState) -> bool:
    """Whether an image was a file that no longer exists."""
    return state.path is not None and not Path(state.path).is_file()
