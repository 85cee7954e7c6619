"""Measuring codecs on real bytes: data sets, metrics, peers, curves and reports.

    data_set = find_data_set("kodak", root)
    codecs = [softstair_codec(), *find_peers(["jpeg-420", "avif-444"])]
    results = evaluate(codecs, data_set, Path("results.json"), jobs=2)
    print(markdown(results))

Needs the extra ``eval``. Nothing here imports torch.
"""

from __future__ import annotations

from softstair.errors import UsageError

try:
    import scipy  # noqa: F401
except ImportError as error:
    raise UsageError("Evaluation needs scipy; install it with: pip install 'softstair[eval]'.") from error

from .catalogue import find_peers, installed_peers
from .curves import DeltaRate, delta_rate
from .data import DataSet, find_data_set, hash_pixels
from .metrics import mean_squared_error, ms_ssim, psnr
from .own import Softstair, softstair_codec
from .peers import Codec
from .report import markdown
from .results import Mean, Results, Row, read_results, write_results
from .run import evaluate

__all__ = [
    "Codec",
    "DataSet",
    "DeltaRate",
    "Mean",
    "Results",
    "Row",
    "Softstair",
    "delta_rate",
    "evaluate",
    "find_data_set",
    "find_peers",
    "hash_pixels",
    "installed_peers",
    "markdown",
    "mean_squared_error",
    "ms_ssim",
    "psnr",
    "read_results",
    "softstair_codec",
    "write_results",
]
