"""Which images are new, changed or moved, compared with those that a gallery has."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bdam.data.images import name_some
from bdam.retrieval.stores.base import ImageState, Store


@dataclass(frozen=True)
class Comparison:
    """
    Images by their position among those compared.

    Args:
        new: unknown until now.
        changed: known by the same name with another content.
        moved: known with the same content, but with another path or stamp; each with the name it was known by.
    """

    new: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    moved: dict[int, str] = field(default_factory=dict)

    @property
    def missing(self) -> list[int]:
        """Those without a vector."""
        return sorted([*self.new, *self.changed])


@dataclass(frozen=True)
class Addition:
    """
    What became of images that were to be added.

    Args:
        added: how many got a vector.
        moved: how many kept their vector under another path or name.
        left_out: those that cannot be read, by name, each with the reason.
    """

    added: int = 0
    moved: int = 0
    left_out: dict[str, str] = field(default_factory=dict)

    def reasons(self) -> list[str]:
        """A line for each reason why images were left out."""
        names = defaultdict(list)
        for name, reason in self.left_out.items():
            names[reason].append(name)
        return [
            f"{len(of_reason):,} cannot be read ({reason}): {name_some(of_reason)}"
            for reason, of_reason in names.items()
        ]


def compare(store: Store, images: Mapping[str, ImageState], content: Callable[[str], int]) -> Comparison:
    """
    Compares images with those of a store. Equal stamps and paths are equal images; otherwise content decides.

    Args:
        images: the state of each, by name, whose `content` is not looked at.
        content: name of an image → the digest of its content, which takes reading it.

    Raises:
        ValueError: if another image, whose file is still there, has the name of one of them.
    """
    known = store.states(images.keys())
    earlier_names = store.ids_by_stamp({new.stamp for name, new in images.items() if name not in known})
    earlier = store.states(earlier_names.values())
    comparison = Comparison()
    for position, (name, new) in enumerate(images.items()):
        if name not in known:
            was = earlier_names.pop(new.stamp, None)
            if was is not None and _is_gone(earlier[was]) and content(name) == earlier[was].content:
                comparison.moved[position] = was
            else:
                comparison.new.append(position)
        elif new.identity_description != known[name].identity_description:
            comparison.changed.append(position)
        elif (new.stamp, new.path) != (known[name].stamp, known[name].path):
            _compare_known(comparison, position, name, new, known[name], content(name) == known[name].content)
    return comparison


def _compare_known(
    comparison: Comparison, position: int, name: str, new: ImageState, known: ImageState, is_same: bool
) -> None:
    if new.path and known.path and new.path != known.path and not _is_gone(known):
        if not is_same:
            raise ValueError(f"Both {known.path} and {new.path} are named {name}: index a folder that holds both.")
    elif is_same:
        comparison.moved[position] = name
    else:
        comparison.changed.append(position)


def _is_gone(state: ImageState) -> bool:
    return state.path is not None and not Path(state.path).is_file()
