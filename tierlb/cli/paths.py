"""The kinds of paths that commands take."""

from pathlib import Path

import click

TopologyPath = click.Path(exists=True, dir_okay=False, path_type=Path)
StatePath = click.Path(file_okay=False, path_type=Path)
JoinPath = click.Path(file_okay=False, path_type=Path)
TokenPath = click.Path(dir_okay=False, path_type=Path)
