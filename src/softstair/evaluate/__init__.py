"""Measuring codecs on real bytes: data sets, metrics, peers, curves and reports.

    data_set = find_data_set("kodak", root)
    codecs = [softstair_codec(), *find_peers(["jpeg-420", "avif-444"])]
    results = evaluate(codecs, data_set, Path("results.json"), jobs=2)
    print(markdown(results))

Needs the extra ``eval``. Nothing here imports torch.
"""

from __future__ import annotations

from softstair.errors import UsageError
from softstair.peers import Codec, find_peers, installed_peers

try:
    import onnx  # noqa: F401
    import scipy  # noqa: F401
    import ssimulacra2 as _ssimulacra2  # noqa: F401
except ImportError as error:
    raise UsageError(
        f"Evaluation needs {error.name}; install it with: pip install 'softstair[eval]'."
    ) from error

from .complexity import complexity_of
from .curve_files import (
    METRICS,
    Curve,
    Metric,
    check_same_pictures,
    measured_metrics,
    published_beside,
    published_curves,
    read_curves,
)
from .curves import DeltaRate, delta_rate
from .data import DataSet, find_data_set, hash_pixels
from .grid import Grid, measure_grid
from .judges import Judge, absent_judges, find_judges, installed_judges
from .metrics import mean_squared_error, ms_ssim, psnr, ssimulacra2
from .own import Softstair, softstair_codec
from .report import delta_table, markdown, markdown_table
from .results import Complexity, Mean, Part, Results, Row, Timing, read_results, write_results
from .run import evaluate

__all__ = [
    "METRICS",
    "Codec",
    "Complexity",
    "Curve",
    "DataSet",
    "DeltaRate",
    "Grid",
    "Judge",
    "Mean",
    "Metric",
    "Part",
    "Results",
    "Row",
    "Softstair",
    "Timing",
    "absent_judges",
    "check_same_pictures",
    "complexity_of",
    "delta_rate",
    "delta_table",
    "evaluate",
    "find_data_set",
    "find_judges",
    "find_peers",
    "hash_pixels",
    "installed_judges",
    "installed_peers",
    "markdown",
    "markdown_table",
    "mean_squared_error",
    "measure_grid",
    "measured_metrics",
    "ms_ssim",
    "psnr",
    "published_beside",
    "published_curves",
    "read_curves",
    "read_results",
    "softstair_codec",
    "ssimulacra2",
    "write_results",
]
