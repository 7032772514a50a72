"""How Sphinx makes a site of these pages: `make docs` writes it to docs/_build. It loads nothing from another host."""

from convladder import __version__

project = "convladder"
author = "the convladder authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3  # links between pages go as deep

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True  # 1 / 12, not 0.08333333333333333
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
napoleon_use_ivar = True  # an attribute stands once, where the class says what it is

html_theme = "pydata_sphinx_theme"
html_title = "convladder"
html_copy_source = False
html_sidebars = {"**": ["contents.html"]}
html_theme_options = {
    "navbar_center": [],
    "navbar_end": ["theme-switcher"],
    "footer_start": [],
    "footer_end": [],
}
