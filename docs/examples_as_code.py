"""Has the reference show the examples of docstrings as code."""

import re
from typing import Any

import griffe

_SESSION = re.compile(r"^([ ]*)>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)  # up to an empty line


class ExamplesAsCode(griffe.Extension):
    """Puts fences around the sessions of Python in docstrings, which Markdown would take for quotations."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Does so for the docstring of each object."""
        if obj.docstring is not None:
            obj.docstring.value = _SESSION.sub(r"\1```pycon\n\g<0>\n\1```", obj.docstring.value)
