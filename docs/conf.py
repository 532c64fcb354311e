"""How the site is built: `make docs`, without network; warnings are errors."""

import os
import sys
from pathlib import Path

import jaxscore

sys.path.append(str(Path(__file__).parent / "_ext"))
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tutorials run `python` as a command, too; its progress bars are for terminals, which Jupyter claims to be.
os.environ["TTY_COMPATIBLE"] = "0"
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

project = "jaxscore"
author = "the jaxscore authors"
release = version = jaxscore.__version__

extensions = ["sphinx.ext.autodoc", "sphinx-mathjax-offline", "myst_nb", "plain_docstrings", "whole_streams"]
exclude_patterns = ["_build", "_ext"]
highlight_language = "default"
smartquotes = False

# Pages are Markdown; those with code cells are notebooks, which are run from an empty folder.
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "auto"
nb_execution_in_temp = True
nb_execution_timeout = 1800  # seconds for a cell, on a machine that is busy with other things
nb_execution_raise_on_error = True
nb_output_stderr = "remove"
nb_merge_streams = True

# The API, in the order of the source.
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_title = f"jaxscore {version}"
html_show_sourcelink = False
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
    "show_toc_level": 2,
    "navigation_with_keys": False,
}
copyright = "the jaxscore authors, Apache-2.0"
