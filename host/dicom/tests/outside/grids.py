"""Whether two volumes lie on one grid, whatever the order of their axes."""

import numpy as np


def on_grid(volume, affine, other, other_affine):
    """Largest distance of a centre to a centre in mm, and where each voxel lies in the other; None if the grids differ."""
    to = np.linalg.inv(other_affine) @ affine
    corners = np.array([[i, j, k, 1] for i in (0, volume.shape[0] - 1) for j in (0, volume.shape[1] - 1)
                        for k in (0, volume.shape[2] - 1)], float)
    there = corners @ to.T
    rounded = np.round(there[:, :3])
    off = np.abs((there[:, :3] - rounded) * np.linalg.norm(other_affine[:3, :3], axis=0)).max()
    if off > 0.01 or rounded.min() < 0 or (rounded.max(0) >= other.shape).any() or volume.size != other.size:
        return None
    i, j, k = np.indices(volume.shape).reshape(3, -1)
    index = np.round(to[:3, :3] @ np.stack([i, j, k]) + to[:3, 3:]).astype(int)
    return off, tuple(index)
