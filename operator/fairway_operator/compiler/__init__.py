"""
The compiler: a World in, a snapshot, findings and conditions out.

Its answers depend on the World alone, never on the order in which the World
came about or on a clock; what it keeps between two calls only saves work. The
one exception is deliberate and can be switched off: while a new version of an
object has errors, the last version without any goes on serving. Work follows
the change: an object is compiled again when it or something it refers to has
changed, a host is merged again when one of its objects was.
"""

from fairway_operator.compiler.compiler import Compiler
from fairway_operator.compiler.outcome import Compilation, Condition, Serving, Standing
from fairway_operator.compiler.preview import Preview
from fairway_operator.compiler.references import is_nowhere
from fairway_operator.compiler.settings import CONTROLLER_NAME, CompilerSettings

__all__ = [
    "CONTROLLER_NAME",
    "Compilation",
    "Compiler",
    "CompilerSettings",
    "Condition",
    "Preview",
    "Serving",
    "Standing",
    "is_nowhere",
]
