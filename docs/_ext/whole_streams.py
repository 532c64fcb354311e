"""Outputs of commands in one piece.

Jupyter sends the output of a command in parts of 100 bytes. myst-nb ends each part with a line break when it
merges them (`nb_merge_streams`), so words would be torn. Here the parts are joined before.
"""

from myst_nb.core import render


def joined(outputs: list) -> list:
    """Returns the outputs, with all parts of a stream in the place of its first part."""
    kept, streams = [], {}
    for output in outputs:
        name = output.get("name") if output["output_type"] == "stream" else None
        if name in streams:
            streams[name]["text"] += output["text"]
            continue
        if name:
            streams[name] = output
        kept.append(output)
    return kept


def setup(app):
    """Puts `joined` before myst-nb's own merging."""
    merge = render.coalesce_streams
    render.coalesce_streams = lambda outputs: merge(joined(outputs))
    return {"parallel_read_safe": True}
