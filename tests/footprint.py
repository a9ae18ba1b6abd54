"""How much an object holds, for tests which claim that memory is bounded."""

import gc
import types

SHARED = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)
"""What belongs to the program and not to an object that refers to it."""


def references(root: object) -> int:
    """The references that an object and all that it leads to hold: each element of a container counts."""
    found, left, count = {id(root)}, [root], 0
    while left:
        for each in gc.get_referents(left.pop()):
            if isinstance(each, SHARED):
                continue
            count += 1
            if id(each) not in found:
                found.add(id(each))
                left.append(each)
    return count
