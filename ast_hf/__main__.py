"""`python -m ast_hf`, the same as `ast-hf`."""

import sys

from .cli import main

sys.exit(main())
