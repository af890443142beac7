"""Writes the codestreams of tests/fixtures/jpeg2000: one small picture by OpenJPEG, with every option that an encoder has.

    python host/dicom/tests/outside/make_jpeg2000.py host/dicom/tests/fixtures/jpeg2000

Names that begin with `general_` are codestreams that the reader's own decoder leaves to the general one. Needs numpy, Pillow and
pylibjpeg-openjpeg.
"""

import sys
from pathlib import Path

import numpy as np
from openjpeg.utils import encode_array
from PIL import Image


def picture(width, height, depth, seed=1):
    """A bright disc with an edge and noise, over air without any: empty blocks, noisy ones, signs of both kinds."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    noise = np.random.default_rng(seed).normal(0, (1 << depth) / 80, (height, width))
    disc = x**2 + y**2 < 0.7
    values = np.where(disc, (1 << depth) * (0.4 + 0.2 * np.sin(9 * x) + 0.3 * (np.abs(y) < 0.1)), 0) + noise * disc
    return values.round().clip(0, (1 << depth) - 1).astype(np.uint16 if depth > 8 else np.uint8)


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)

    def pillow(name, size=(75, 61), depth=16, **options):
        options = {"irreversible": False, "no_jp2": True, "mct": 0} | options
        image = Image.fromarray(picture(*size, depth))
        image.save(folder / f"{name}.j2k", "JPEG2000", **options)

    for order in ("LRCP", "RLCP", "RPCL"):
        pillow(f"order_{order}", progression=order)
        pillow(f"order_{order}_layers_precincts", progression=order, size=(100, 90), num_resolutions=3, precinct_size=(64, 64), codeblock_size=(16, 16),
               quality_mode="rates", quality_layers=[12, 6, 3, 0])
    for order in ("PCRL", "CPRL"):
        pillow(f"order_{order}", progression=order)
        pillow(f"general_order_{order}_precincts", progression=order, size=(100, 90), num_resolutions=3, precinct_size=(64, 64), codeblock_size=(16, 16))
    for levels in (1, 2, 4, 6):
        pillow(f"resolutions_{levels}", num_resolutions=levels)
    for block in ((64, 64), (32, 16), (16, 64)):
        pillow(f"blocks_{block[0]}_{block[1]}", size=(130, 70), codeblock_size=block)
    pillow("general_blocks_128_32", size=(130, 70), codeblock_size=(128, 32))
    for size in ((1, 1), (1, 9), (7, 1), (5, 3), (64, 64), (65, 129)):
        pillow(f"size_{size[0]}_{size[1]}", size=size, num_resolutions=min(4, min(size).bit_length()))
    pillow("bits_8", depth=8)
    pillow("tiles", size=(100, 90), tile_size=(37, 41))
    pillow("tiles_offsets", size=(100, 90), tile_size=(37, 41), tile_offset=(3, 5), offset=(11, 9))
    pillow("offset_odd", offset=(13, 7), tile_size=(200, 200))
    pillow("layers_cut", quality_mode="rates", quality_layers=[20, 8])
    pillow("general_lossy", irreversible=True, quality_mode="rates", quality_layers=[10])
    for depth in (9, 12, 16):
        values = picture(75, 61, depth)
        (folder / f"unsigned_{depth}.j2k").write_bytes(encode_array(values, bits_stored=depth, photometric_interpretation=2))
        signed = (values.astype(np.int32) - (1 << (depth - 1))).astype(np.int16)
        (folder / f"signed_{depth}.j2k").write_bytes(encode_array(signed, bits_stored=depth, photometric_interpretation=2))


if __name__ == "__main__":
    main()
