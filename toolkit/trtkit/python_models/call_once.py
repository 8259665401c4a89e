# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs by itself, in the Python of a model's environment: ``python call_once.py FOLDER REQUEST RESULT``.

It calls a function as the part ``python_function`` does, with what lies in the version folder and nothing of trtkit
besides. REQUEST is a pickle, RESULT becomes JSON: ``{}``, or the ``error``.
"""

from __future__ import annotations

import json
import pickle
import sys
import traceback
from pathlib import Path
from typing import Any


def _call_once(folder: str, request: dict[str, Any]) -> None:
    """Load, check and call; raises ValueError with the sentence for what does not fit."""
    import numpy as np

    sys.path.insert(0, folder)
    from trtkit_callable import check_signature, described, load
    from trtkit_results import Output, named_results

    call = load(request["function"], folder, request["arguments"], factory=request["factory"])
    check_signature(request["function"], call, request["inputs"])
    outputs = [Output(name, np.dtype(kind), tuple(dims)) for name, kind, dims in request["outputs"]]
    arrays = {name: np.array(value, dtype=kind).reshape(shape) for name, kind, shape, value in request["arrays"]}
    try:
        returned = call(**arrays)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        raise ValueError(
            f"'{request['function']}' raised {described(error)}, called with {request['origin']}: {shapes}"
        ) from error
    try:
        named_results(returned, outputs)
    except Exception as error:
        raise ValueError(f"'{request['function']}', called with {request['origin']}: {error}") from error


def main() -> None:
    """Write what went wrong; what the user's code prints goes to this process's output."""
    folder, given, result = sys.argv[1:]
    request = pickle.loads(Path(given).read_bytes())
    error = ""
    try:
        _call_once(folder, request)
    except ValueError as exc:
        error = str(exc)
    Path(result).write_text(json.dumps({"error": error} if error else {}))


if __name__ == "__main__":
    main()
