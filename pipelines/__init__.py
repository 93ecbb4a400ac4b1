"""One module a command; each reads like the recipe of what it does.

The folder lies beside the package in the repository and inside it once installed.
"""

if __name__ != "vision_mem.pipelines":
    # Two names for one folder would mean two copies of every module and its state.
    raise ImportError("import this folder as vision_mem.pipelines (after `pip install -e .`)")
