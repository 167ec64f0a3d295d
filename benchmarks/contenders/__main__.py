"""`python -m contenders MODULE SHAPE DATA OPTIONS`: one contender's process; OPTIONS are its keywords as JSON."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from contenders.shapes import SHAPES
from contenders.turns import Turns

module, shape, data, options = sys.argv[1:]
turns = Turns(SHAPES[shape].tokens)
importlib.import_module(f"contenders.{module}").run(turns, SHAPES[shape], Path(data), **json.loads(options))
