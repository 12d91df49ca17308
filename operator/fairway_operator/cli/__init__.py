"""
The ``fairway`` command.

Nothing here decides what a configuration means: every command reads its input,
hands it to the same decoder, compiler and matcher that the programs use, and
prints the answer. Modules are imported by the command that needs them, so that
``fairway --help`` is quick and a data-plane image needs no operator's
libraries.
"""
