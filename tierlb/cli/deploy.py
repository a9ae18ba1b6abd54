"""Changes of a cluster that compose runs (`--compose DIR`): the controller carries the change out, as everywhere, and
this command does for the containers what it asks for.

Before anything is sent, the topology that would come of it is rendered, so that what compose cannot carry out is
refused while nothing has happened. When the change has begun, what is new is started and connected; when it is over,
whatever it came to, what the topology that counts does not have any more ends. Who presses Ctrl-C between can go on
with `tierlb progress --compose DIR`.
"""

import sys
from pathlib import Path
from typing import Any

import attrs
import click

from tierlb.cli.change import Wish, conclude, show_plan, watch
from tierlb.cli.client import Client
from tierlb.cli.compose import check_for_compose
from tierlb.cluster.compose import ADMIN_TOKEN, document
from tierlb.cluster.containers import conflicts, outdated
from tierlb.cluster.docker import Engine, EngineError, find_engine
from tierlb.cluster.project import SECRETS, NotOurs, Project, lay_out, read_project, rendering
from tierlb.dashboard.bodies import PlanBody
from tierlb.dashboard.shapes import Misshapen, read
from tierlb.model.topology import Topology
from tierlb.topology.edit import EditError, edited
from tierlb.topology.load import load_text
from tierlb.topology.problems import TopologyError
