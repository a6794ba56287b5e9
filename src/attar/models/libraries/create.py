"""Networks of other libraries, made by name for the images there are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from math import isqrt
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.errors import AttarError, first_line
from attar.models.libraries.families import as_staged
from attar.models.libraries.hub_access import offline_if_unknown
from attar.models.libraries.names import CONFIGS, GRAPHS, Library, checked_name, library_of
from attar.models.libraries.staged_network import LibraryStaged, drawn_as_whole
from attar.models.preprocessing import ImageInput, Numbers, adapt_input, expected
from attar.models.registry import BUILDERS, Spec
from attar.models.surgery.clipped import slimmed
from attar.models.weights import Weights, fit, read_state
from attar.sizes import Size, height_width, shortest

PUBLISHED = "pretrained"
# Options that say what text is made of; only data of sentences give them.
VOCABULARY, PADDING = "vocab_size", "pad_token_id"
# Below this side, networks made for photographs may run out of map; off this stride, patches may not cover it.
SMALL, STRIDE = 64, 32
# Options by which timm and torchvision fetch or open files; a network's JSON comes from anywhere.
LOADING = ("pretrained", "checkpoint", "weights", "cache", "url", "hub")
Sizes = Mapping[str, Any]
# (mean, std) of the images a network will be given; None is as it wants them.
Normalisation = tuple[Numbers, Numbers] | None


def create_outside(
    name: str,
    sizes: Sizes,
    weights: Weights,
    normalisation: Normalisation,
    options: dict[str, Any],
) -> nn.Module:
    """A network of a library, or out of a file; see `create_model` for the arguments."""
    if name.startswith("onnx/"):
        return from_onnx(name.removeprefix("onnx/"), sizes, weights, normalisation, options)
    if name.startswith(CONFIGS):
        make = text_classifier if VOCABULARY in options else language_model
        return make(name.removeprefix(CONFIGS), sizes, weights, options)
    if name.startswith(GRAPHS):
        return graph_network(name.removeprefix(GRAPHS), sizes, weights, options)
    if name.startswith("hf/"):
        return from_folder(Path(name.removeprefix("hf/")), sizes, weights, normalisation, options)
    library = library_of(name)
    assert library is not None
    short, options = checked_name(library, name), dict(options)
    side = options.pop("input_size", None)
    state: Mapping[str, Tensor] | None = None
    source = weights.source
    if source is not None and source != PUBLISHED:
        state = read_state(source)
    card = card_of(source) if state is not None else None
    if card is not None:
        seen, normalisation = seen_by(card, normalisation)
    else:
        seen = trained_on(library, short, source, state)
    channels = len(seen.mean) if seen and sizes["in_channels"] == 1 else sizes["in_channels"]
    side = shortest(side or (seen.size if seen else sizes["image_size"]))
    spec = {
        "kind": "library",
        "model": name,
        **sizes,
        "in_channels": channels,
        "image_size": side if isinstance(side, int) else list(side),
        **{key: list(value) if isinstance(value, tuple) else value for key, value in options.items()},
    }
    net = rebuilt(spec)
    if source == PUBLISHED:
        state = fetched(library, name, short, side, options)
    elif state is not None and library.prefix == "timm/":
        state = with_positions(state, side)
    if state is not None:
        fit(net, state, f"{name} (pretrained)" if source == PUBLISHED else str(source), weights.head, weights.classes)
    return fronted(net, sizes, side, seen, normalisation)


def trained_on(
    library: Library, short: str, weights: str | Path | None, state: Mapping[str, Tensor] | None
) -> ImageInput | None:
    """What the weights were trained on; None where that is the data as they are.

    Of a file, the number of classes tells: as many as the published weights have means that it sees what those see.
    """
    if weights is None:
        return None
    if weights == PUBLISHED:
        return library.expects(short)[0]
    try:
        seen, classes = library.expects(short)
    except AttarError:
        return None
    # A linear layer of as many rows is the published classifier; nothing else in these networks has that width.
    # Networks that are published without a classifier have the weights of no other.
    published = not classes or any(value.ndim == 2 and len(value) == classes for value in (state or {}).values())
    return seen if published else None


def with_positions(state: Mapping[str, Tensor], side: Size) -> Mapping[str, Tensor]:
    """A vision transformer's weights with the positions of their patches interpolated to another size of images.

    >>> state = {"pos_embed": torch.zeros(1, 17, 8), "patch_embed.proj.weight": torch.zeros(8, 3, 4, 4)}
    >>> with_positions(state, 32)["pos_embed"].shape
    torch.Size([1, 65, 8])
    """
    positions, patches = state.get("pos_embed"), state.get("patch_embed.proj.weight")
    if positions is None or patches is None or positions.ndim != 3 or patches.ndim != 4:
        return state
    before = isqrt(positions.shape[1])
    prefix = positions.shape[1] - before**2  # the tokens of no patch
    height, width = (one // patch for one, patch in zip(height_width(side), patches.shape[-2:], strict=True))
    if (height, width) == (before, before) or prefix > before:
        return state
    first, grid = positions[:, :prefix], positions[:, prefix:].unflatten(1, (before, before)).permute(0, 3, 1, 2)
    # As timm does it for the weights that it fetches.
    grid = F.interpolate(grid.float(), (height, width), mode="bicubic", antialias=True).to(positions.dtype)
    return {**state, "pos_embed": torch.cat([first, grid.flatten(2).transpose(1, 2)], 1)}


def card_of(weights: str | Path | None) -> dict[str, Any] | None:
    """The spec in the JSON beside weights that Attar saved; None where there is none."""
    try:
        held = json.loads(Path(weights or "").with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    spec = held.get("spec") if isinstance(held, dict) and "attar" in held else None
    if isinstance(spec, dict) and spec.get("kind") == "headless":
        spec = spec.get("network")
    return spec if isinstance(spec, dict) else None


def seen_by(card: Spec, normalisation: Normalisation) -> tuple[ImageInput | None, Normalisation]:
    """What a network that Attar saved was trained on, and how the images it will get are normalised."""
    if card.get("kind") != "adapted":
        return None, normalisation
    seen = expected(card["expects"])
    # Zeros and ones: it was given the data's own normalisation and only another size.
    resized = {*card["mean"], *seen.mean} == {0.0} and {*card["std"], *seen.std} == {1.0}
    return seen, None if resized else normalisation


def make(
    library: Library, name: str, short: str, num_classes: int, channels: int, side: Any, options: dict[str, Any]
) -> nn.Module:
    """The library's own network; its complaints become one line.

    Raises:
        AttarError: an option that fetches or opens files, or one that the library refuses.
    """
    for option in options:
        if any(part in option for part in LOADING):
            raise AttarError(f"{name}: the option {option!r} loads or fetches files; give teacher.weights=FILE")
    try:
        return library.create(short, num_classes, channels, side, options)
    except (TypeError, ValueError, AssertionError, RuntimeError, KeyError) as error:
        if isinstance(error, AttarError):
            raise
        reason = first_line(error)
        given = f" with {options}" if options else ""
        size = "{}x{}".format(*height_width(side))
        raise AttarError(f"{name} cannot be made for images of {size}{given}: {reason}") from None


def rebuilt(spec: Spec) -> nn.Module:
    """A library's network from its spec, newly initialised: staged where its family is known.

    Raises:
        AttarError: the library refuses the options or the size.
    """
    fields = dict(spec)
    name, classes = fields.pop("model"), fields.pop("num_classes")
    channels, side = fields.pop("in_channels"), shortest(fields.pop("image_size"))
    height, width = height_width(side)
    fields.pop("kind", None)
    library = library_of(name)
    assert library is not None
    raw = slimmed(make(library, name, checked_name(library, name), classes, channels, side, fields))
    # One forward pass finds the stages of some families, and whether small images survive all of them.
    try:
        net: Any = as_staged(raw) or raw
        if min(height, width) < SMALL or height % STRIDE or width % STRIDE or height != width:
            probe(net, channels, side)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = first_line(error).rstrip(".")
        raise AttarError(
            f"{name} does not take images of {height}x{width}: {reason}; give student.options.input_size=224, say "
            "(teacher. for a teacher)"
        ) from None
    net.input_shape = (channels, height, width)
    net.spec = {**spec, "kind": "library"}
    if isinstance(net, LibraryStaged):
        net.redraw = partial(rebuilt, net.spec)
    else:
        drawn_as_whole(net, partial(rebuilt, net.spec))
    return net


BUILDERS["library"] = rebuilt


@torch.no_grad()
def probe(net: nn.Module, channels: int, size: Size) -> None:
    """Run one blank image through."""
    net.eval()
    net(torch.zeros(1, channels, *height_width(size)))
    net.train()


def fetched(library: Library, name: str, short: str, side: Any, options: dict[str, Any]) -> Mapping[str, Tensor]:
    """The published weights.

    Raises:
        AttarError: the library cannot get them.
    """
    with offline_if_unknown() as unknown:
        try:
            return library.published(short, side, options)
        except AttarError:
            raise
        except Exception as error:  # whatever downloads raise; the remedy is the same
            reason = f"{type(error).__name__}: {first_line(error)}"
            if unknown:
                reason = f"they are not in the cache, and there is no network: {unknown} is not found"
            raise AttarError(
                f"{name}: its weights cannot be fetched ({reason}); give a file (teacher.weights=FILE)"
            ) from None


def fronted(
    net: nn.Module, sizes: Sizes, side: Any, seen: ImageInput | None, normalisation: Normalisation
) -> nn.Module:
    """The network behind what turns the data's images into its own."""
    channels = sizes["in_channels"]
    if seen and normalisation:
        (mean, std), own = normalisation, (seen.mean, seen.std)
    else:
        # No normalisation is given: the images are as the network wants them.
        width = shape_of(net)[0]
        mean, std = (0.0,) * channels, (1.0,) * channels
        own = (0.0,) * width, (1.0,) * width
    how = seen.interpolation if seen else "bicubic"
    return adapt_input(net, mean, std, sizes["image_size"], ImageInput(*own, side, how))


def shape_of(net: Any) -> tuple[int, int, int]:
    """The images a network was made for."""
    return net.input_shape


def from_folder(
    folder: Path,
    sizes: Sizes,
    weights: Weights,
    normalisation: Normalisation,
    options: dict[str, Any],
) -> nn.Module:
    """A Hugging Face classifier with the weights of its folder, or of a file."""
    from attar.models.libraries import causal_lm, hugging_face

    config = hugging_face.read_json(folder / "config.json")
    if VOCABULARY in options and not causal_lm.is_causal(config):
        return text_classifier(folder, sizes, weights, options)
    if options:
        raise AttarError(f"hf/{folder} takes no options, got {', '.join(options)}; its config.json says what it is")
    if causal_lm.is_causal(config):
        return language_model(folder, sizes, weights, {})
    net = hugging_face.create(config, sizes["num_classes"])
    seen = hugging_face.expects(folder, config)
    if weights.source is None or weights.source == PUBLISHED:
        fit(net.model, hugging_face.weights(folder), f"hf/{folder}", weights.head, weights.classes)
    else:
        fit(net, read_state(weights.source), str(weights.source), weights.head, weights.classes)
        card = card_of(weights.source)
        if card is not None:
            seen, normalisation = seen_by(card, normalisation)
    side = shortest(seen.size if seen else config.get("image_size") or sizes["image_size"])
    net.input_shape = (int(config.get("num_channels", 3)), *height_width(side))
    net.spec["num_classes"] = sizes["num_classes"]
    return fronted(net, sizes, side, seen, normalisation)


def language_model(name: str | Path, sizes: Sizes, weights: Weights, options: dict[str, Any]) -> nn.Module:
    """A language model by the kind of its configuration, or out of a folder; its classes are the vocabulary."""
    from attar.models.libraries import causal_lm

    if isinstance(name, Path):
        net: Any = causal_lm.from_folder(name, sizes["num_classes"])
    else:
        net = causal_lm.create(name, sizes["num_classes"], options)
    # The side of images is here the length of sequences.
    net.input_shape = (sizes["image_size"],)
    if weights.source is not None:
        fit(net, read_state(weights.source), str(weights.source), weights.head, weights.classes)
    return net


def graph_network(name: str, sizes: Sizes, weights: Weights, options: dict[str, Any]) -> nn.Module:
    """A network on graphs by its family; the channels are the features of a node, the side the number of nodes."""
    from attar.models.libraries import graph_nets

    net = graph_nets.create(name, sizes["num_classes"], sizes["in_channels"], sizes["image_size"], options)
    if weights.source is not None:
        fit(net, read_state(weights.source), str(weights.source), weights.head, weights.classes)
    return net


def text_classifier(name: str | Path, sizes: Sizes, weights: Weights, options: dict[str, Any]) -> nn.Module:
    """A text classifier by the kind of its configuration, or out of a folder.

    Raises:
        AttarError: a folder is given options beside what follows from the data.
    """
    from attar.models.libraries import text_classifier

    vocabulary = {key: options[key] for key in (VOCABULARY, PADDING) if key in options}
    rest = {key: value for key, value in options.items() if key not in vocabulary}
    if isinstance(name, Path):
        if rest:
            raise AttarError(f"hf/{name} takes no options, got {', '.join(rest)}; {CONFIGS}{name} takes some")
        same = weights.head == "same"
        net: Any = text_classifier.from_folder(name, sizes["num_classes"], options[VOCABULARY], same)
    else:
        net = text_classifier.create(name, sizes["num_classes"], vocabulary, rest)
    # The side of images is here the length of sentences.
    net.input_shape = (sizes["image_size"],)
    if weights.source is not None:
        fit(net, read_state(weights.source), str(weights.source), weights.head, weights.classes)
    return net


def is_untrained(name: str) -> bool:
    """Whether a network that carries its weights has no classifier yet, as encoders of text have none."""
    from attar.models.libraries import hugging_face, text_classifier

    if not name.startswith("hf/"):
        return False
    config = hugging_face.read_json(Path(name.removeprefix("hf/")) / "config.json")
    return text_classifier.is_bare(config)


def from_onnx(
    file: str, sizes: Sizes, weights: Weights, normalisation: Normalisation, options: dict[str, Any]
) -> nn.Module:
    """An exported network, checked on one blank image; one that Attar exported sees the images that it was made for."""
    from attar.models.libraries.onnx_model import OnnxNet

    if options or weights.source is not None:
        raise AttarError(f"onnx/{file} has its weights and no options; leave teacher.weights and .options out")
    net = OnnxNet(file, weights.classes)
    seen = onnx_input(net.facts)
    channels, side = (len(seen.mean), seen.size) if seen else (sizes["in_channels"], sizes["image_size"])
    shape = (channels, *height_width(side))
    try:
        logits = net(torch.zeros(1, *shape))
    except Exception as error:  # onnxruntime's own types
        reason = first_line(error)
        raise AttarError(f"onnx/{file} does not take images of {shape}: {reason}") from None
    if logits.shape != (1, sizes["num_classes"]):
        raise AttarError(
            f"onnx/{file} puts out {tuple(logits.shape)} for one image; the data have {sizes['num_classes']} classes"
        )
    net.input_shape = shape
    return net if seen is None else fronted(net, sizes, side, seen, normalisation)


def onnx_input(facts: Mapping[str, str]) -> ImageInput | None:
    """The images that a file takes, from its metadata; None where they do not say, or it normalises itself."""
    from attar.models.libraries.onnx_model import recorded

    mean, std, size = (recorded(facts, key) for key in ("mean", "std", "image_size"))
    if None in (mean, std, size) or facts.get("input", "").startswith("uint8"):
        return None
    return ImageInput(tuple(mean), tuple(std), shortest(size), "bilinear")
