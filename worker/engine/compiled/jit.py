"""numba's compiler as this package uses it."""

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile at the first call, without the interpreter's lock, and keep the result on disk where one may write.

    No fast-math: sums keep their order, and what is no number stays none.
    """
    if function is None:
        return lambda wrapped: compiled(wrapped, **options)
    try:
        return njit(function, nogil=True, cache=True, error_model="numpy", **options)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written to
        return njit(function, nogil=True, error_model="numpy", **options)
