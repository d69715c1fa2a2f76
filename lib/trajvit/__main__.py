"""python -m trajvit"""

import sys

from trajvit.running.cli import main

sys.exit(main(sys.argv[1:]))
