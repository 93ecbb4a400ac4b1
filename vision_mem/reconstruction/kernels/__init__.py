"""Inner loops over pixels and voxels, compiled by numba or in numpy alone."""
