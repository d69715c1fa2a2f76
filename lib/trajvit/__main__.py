"""python -m trajvit"""

import gc
import sys

from trajvit.running.cli import main

code = main(sys.argv[1:])
gc.freeze()  # or Python's last garbage collection takes longer than making a small dataset
sys.exit(code)
