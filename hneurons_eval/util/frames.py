"""Data frames, for which pandas is needed only where they are asked for."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def data_frame(rows: Sequence[Any], columns: Sequence[str]) -> "pd.DataFrame":
    """A data frame of rows.

    Raises:
        ImportError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError("data frames need pandas: pip install hneurons-eval[frames]") from error
    return pandas.DataFrame(rows, columns=list(columns))
