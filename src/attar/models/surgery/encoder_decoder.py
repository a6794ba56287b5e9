"""The encoder of one network under the decoder of another."""

from __future__ import annotations

from typing import Any, Self, cast

from torch import Tensor, nn

from attar.errors import AttarError
from attar.models.registry import BUILDERS, Spec, build
from attar.models.surgery.staged import Staged


class EncoderDecoder(nn.Module):
    """One staged network's encoder, then another's decoder. All parameters are shared with the networks given.

    The encoder is everything up to `code_tap`: of an autoencoder what makes the codeword, of any other network the stem
    and the stages. The decoder is the rest. A decoder that is frozen stays in eval mode.

    Args:
        encoder: the network whose encoder is taken.
        decoder: the network whose decoder is taken; it takes codes of the same shape.

    >>> import torch
    >>> from attar.models import create_model
    >>> large, small = (create_model("csinet", 2, 2, (4, 8), width=width) for width in (32, 2))
    >>> EncoderDecoder(small, large)(torch.zeros(1, 2, 4, 8)).shape
    torch.Size([1, 2, 4, 8])
    """

    def __init__(self, encoder: Staged, decoder: Staged) -> None:
        super().__init__()
        self._specs = encoder.spec, decoder.spec
        self.input_shape = encoder.input_shape
        self.stages, self.start = stages_of_encoder(encoder), stages_of_encoder(decoder)
        above = [f"stage{number}" for number in range(self.stages + 1, len(encoder.layout.stages) + 1)]
        below = [f"stage{number}" for number in range(1, self.start + 1)]
        self.encoder, self.decoder = encoder.without(*above, "head"), decoder.without("stem", *below)

    def encode(self, inputs: Tensor) -> Tensor:
        """Inputs to codes."""
        x = self.encoder.stem(inputs)
        for index in range(self.stages):
            x, _ = self.encoder.run_stage(index, x)
        return x

    def decode(self, code: Tensor) -> Tensor:
        """Codes to what the network puts out."""
        return self.decoder.resume(code, self.start).logits

    def forward(self, inputs: Tensor) -> Tensor:
        return self.decode(self.encode(inputs))

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.decoder.parameters()):
            self.decoder.eval()
        return self

    @property
    def spec(self) -> dict[str, Any]:
        """Plain data from which `build` rebuilds the network without its weights.

        Raises:
            AttarError: one of the two was made by hand and has no spec.
        """
        if None in self._specs:
            raise AttarError("an encoder or decoder made by hand has no spec; use create_model")
        return {"kind": "encoder_decoder", "encoder": self._specs[0], "decoder": self._specs[1]}


def stages_of_encoder(net: Staged) -> int:
    """How many of a network's stages belong to its encoder."""
    return net.encoder_stages or len(net.layout.stages)


def _encoder_decoder(spec: Spec) -> EncoderDecoder:
    return EncoderDecoder(cast(Staged, build(spec["encoder"])), cast(Staged, build(spec["decoder"])))


BUILDERS["encoder_decoder"] = _encoder_decoder
