import numpy as np
from numpy.typing import NDArray

def resize_normalize(
    frame: NDArray[np.uint8],
    out: NDArray[np.float32],
    gain: NDArray[np.float32],
    offset: NDArray[np.float32],
) -> None: ...
