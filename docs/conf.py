"""
How the documentation is built: C{make docs}.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import inventories  # noqa: E402 (found by the line above)

project = "twisted_peercred"
copyright = "the twisted_peercred developers"
extensions = ["sphinx.ext.intersphinx", "pydoctor.sphinx_ext.build_apidocs"]
# One is included by another.
exclude_patterns = ["_build", "performance-table.rst"]
html_theme = "furo"
html_title = "twisted_peercred"
html_static_path = ["_static"]
html_copy_source = False
nitpicky = True

# No network: what other projects document is taken from their own sources, as
# they are installed, so that a link to a name that is not there is an error.
_made = inventories.make(Path(os.environ.get("DOCS_SCRATCH", HERE / "_build")))

pydoctor_url_path = "api"
pydoctor_args = [
    "--project-name=twisted_peercred",
    "--project-base-dir=" + str(HERE.parent),
    "--docformat=epytext",
    "--theme=readthedocs",
    "--privacy=HIDDEN:twisted_peercred.__main__",
    "--html-output={outdir}/api",
    "--warnings-as-errors",
    *(f"--intersphinx-file={file}::{base}" for file, base in _made),
    str(HERE.parent / "twisted_peercred"),
]
intersphinx_mapping = {}
