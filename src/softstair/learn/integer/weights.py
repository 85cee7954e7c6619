"""The scale network and the gains as integers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from softstair.errors import InvalidBundle
from softstair.quantize.grids import INPUTS, LAYERS, WEIGHT_BITS
from softstair.quantize.rates import POSITIONS_PER_OCTAVE
from softstair.quantize.scale_network import Layer, ScaleWeights

from ..codec import Codec

_INT16 = (-32768, 32767)


def integer_weights(codec: Codec) -> ScaleWeights:
    """Round the scale network to its grids and prove that it cannot overflow.

    Raises:
        InvalidBundle: a weight leaves int16 or an accumulator could leave int32.
    """
    network = codec.scale_network
    layers = {}
    for name in LAYERS:
        convolution = getattr(network, name)
        weight = whole(convolution.weight, WEIGHT_BITS)
        if weight.min() < _INT16[0] or weight.max() > _INT16[1]:
            raise InvalidBundle(
                f"Layer {name} of the scale network has weights up to {np.abs(weight).max()} in units of "
                f"2**-{WEIGHT_BITS}, beyond int16; train longer with fixed grids or lower its learning rate."
            )
        bias = whole(convolution.bias, WEIGHT_BITS) << INPUTS[name].bits
        layers[name] = Layer(weight.astype(np.int16), bias.astype(np.int32))
    weights = ScaleWeights(
        layers,
        whole(network.rate.table, WEIGHT_BITS).astype(np.int32),
        whole(network.phase, WEIGHT_BITS).astype(np.int32),
    )
    try:
        weights.build(simd=False)  # the core checks every bound
    except ValueError as error:
        raise InvalidBundle(f"The scale network cannot be made integer: {error}.") from error
    return weights


def integer_gains(codec: Codec) -> npt.NDArray[np.int32]:
    """e_c at the rate points, int32 (points, C), 1/32 octave."""
    return whole(codec.gains.offset * POSITIONS_PER_OCTAVE, 0).astype(np.int32)


def whole(values: Tensor, bits: int) -> npt.NDArray[np.int64]:
    """Round half up to multiples of 2**-bits, as training does."""
    array = values.detach().double().cpu().numpy()
    return np.floor(array * (1 << bits) + 0.5).astype(np.int64)
