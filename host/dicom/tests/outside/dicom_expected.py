"""Writes fixtures/values.json: for each fixture with pixels the shape and the SHA-256 of pydicom's values as f32.

    python host/dicom/tests/outside/dicom_expected.py
"""

import hashlib
import json
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from dicom_values import expected  # noqa: E402

fixtures = pathlib.Path(__file__).parent.parent / "fixtures"
out = {}
for path in sorted(fixtures.rglob("*.*")):
    if path.suffix in (".dcm", ".seg"):
        values, _, _ = expected(path)
        if values is not None:
            data = values.astype("<f4")
            out[str(path.relative_to(fixtures))] = {
                "dims": list(data.shape),
                "min": float(data.min()),
                "max": float(data.max()),
                "sha256": hashlib.sha256(data.tobytes()).hexdigest(),
            }
(fixtures / "values.json").write_text(json.dumps(out, indent=1) + "\n")
