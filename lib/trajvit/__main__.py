"""python -m trajvit"""

import gc
import signal
import sys

signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    from trajvit.running.cli import main

    code = main(sys.argv[1:])
except KeyboardInterrupt:  # while the modules were being read
    code = 75
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)  # what there was to say is said
exec("")  # or an interrupt inside another exec, as of a dataclass just being made, would end us by SIGINT whatever the code
gc.freeze()  # or Python's last garbage collection takes longer than making a small dataset
sys.exit(code)
