"""How much an error of a latent matters to the picture, by channel.

To first order an error e of y^ moves the picture by J e, J the synthesis's Jacobian, so that
errors of one step that do not depend on each other cost sum_i |J_i|^2 step_i^2. Squared columns
are measured with random probes: for signs r, E (J^T r)_i^2 = |J_i|^2 (M. F. Hutchinson, "A
stochastic estimator of the trace of the influence matrix", Commun. Stat. 18(3), 1989).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from softstair.quantize.rates import POSITIONS_PER_OCTAVE, interpolate
from softstair.quantize.tables import TableSet

from ..codec import Codec
from ..layers.rates import hat_weights
from ..recipe import Quantizer
from .measure import Integers, Sample
from .modes import plain_mode, quantize


def channel_weights(
    codec: Codec, integers: Integers, taken: Iterable[Sample], z_tables: TableSet
) -> npt.NDArray[np.float32]:
    """Weights of squared errors in steps, (C,); 1 on average over symbols that are not zero."""
    mode = plain_mode(integers, "scalar", Quantizer())
    cost = np.zeros(codec.shape.latents)
    symbols = np.zeros(codec.shape.latents)
    for index, one in enumerate(taken):
        decided = quantize(codec, integers, one, z_tables, mode)
        # Steps as at position 0, so that all positions count alike.
        step = np.exp2(-interpolate(integers.gains, one.position) / POSITIONS_PER_OCTAVE)
        cost += _squared_columns(codec, decided.decoded, one.position, index) * step**2
        symbols += (decided.tile.symbols != 0).mean((0, 1))
    weights = cost / (cost * symbols).sum() * symbols.sum()
    return weights.astype(np.float32)


def _squared_columns(codec: Codec, latents: npt.NDArray[np.float32], position: int, seed: int) -> np.ndarray:
    """Mean over places of |J_i|^2, (C,)."""
    hat = hat_weights(torch.tensor([position]), codec.shape.rate_points)
    known = torch.from_numpy(latents)[None].requires_grad_()
    picture = codec.synthesis(known, hat)
    signs = torch.randint(0, 2, picture.shape, generator=torch.Generator().manual_seed(seed)) * 2.0 - 1
    (gradient,) = torch.autograd.grad((picture * signs).sum(), known)
    squares: np.ndarray = gradient[0].square().mean((1, 2)).double().numpy()
    return squares
