"""What the methods of a cached function show of themselves: the parameters of the function, not `*args, **kwargs`."""

from __future__ import annotations

from inspect import Parameter, Signature, signature
from typing import Any

from samovar._views import Entry

#: What they return where it is not what the function returns. On an async function it is what awaiting them gives.
RETURNS = {"invalidate": None, "set": None, "peek": Entry | None, "key": str}


def of_method(method: Any) -> Signature:
    """The signature of `f.invalidate` and the like; called by native code for ``__signature__``."""
    if method.__name__ == "warm":
        return Signature([Parameter("calls", Parameter.POSITIONAL_ONLY)])
    own = signature(method.__self__)
    parameters = list(own.parameters.values())
    if method.__name__ == "set":
        name = "value"
        while name in own.parameters:
            name = f"_{name}"
        parameters.insert(0, Parameter(name, Parameter.POSITIONAL_ONLY))
    returned = RETURNS.get(method.__name__, own.return_annotation)
    return own.replace(parameters=parameters, return_annotation=returned)
