# What a rented machine does after it has started; the lines above, written by `ec2 launch`, say for which run:
#   PLACE    s3://bucket/prefix/run, where everything comes from and goes to
#   MINUTES  when the machine ends at the latest
#   FIRST    the packages with which S3 is spoken, so that the installation of the others can be followed from afar
# For trying it elsewhere:
#   TRAJVIT_PYTHON    a Python that has all of requirements.txt: nothing is installed
#   TRAJVIT_SHUTDOWN  what is called instead of shutdown(8)
#   TRAJVIT_BOOTS     the folder of what runs at every boot
#   TRAJVIT_HOME      where everything happens; a run continues only in the folder in which it began
set -euo pipefail
shutdown=${TRAJVIT_SHUTDOWN:-shutdown}
home=${TRAJVIT_HOME:-/opt/trajvit}
boots=${TRAJVIT_BOOTS:-/var/lib/cloud/scripts/per-boot}
python=${TRAJVIT_PYTHON:-}
export PLACE HOME=${HOME:-/root} # cloud-init sets no HOME

# First of all, so that the machine ends whatever happens below. One that shuts itself down is terminated.
trap '"$shutdown" -h now' EXIT
"$shutdown" -h "+$MINUTES"
# A reboot would forget that, and this script runs at the first boot alone: any other ends the machine.
mkdir -p "$boots"
printf '#!/bin/sh\nexec %s -h now\n' "$shutdown" >"$boots/trajvit"
chmod +x "$boots/trajvit"

thrice() { "$@" || { sleep 5 && "$@"; } || { sleep 20 && "$@"; }; } # the network and dnf's lock may take a moment

mkdir -p "$home/tmp"
cd "$home"
exec > >(tee -a machine.log) 2>&1
install=
if [ -z "$python" ]; then
    export TMPDIR=$home/tmp PIP_NO_CACHE_DIR=1 # /tmp is memory there, and too small for torch
    thrice dnf install -y -q python3.11 python3.11-pip
    python3.11 -m venv venv
    python=$home/venv/bin/python
    install=--install
    # shellcheck disable=SC2086
    thrice "$python" -m pip install --quiet --disable-pip-version-check $FIRST
fi

"$python" - <<'FETCH'
import os
import tarfile

import boto3

bucket, _, prefix = os.environ["PLACE"].removeprefix("s3://").partition("/")
for name in ("source.tar.gz", "parameters.yaml"):
    boto3.client("s3").download_file(bucket, f"{prefix}/{name}", name)
with tarfile.open("source.tar.gz") as archive:
    archive.extractall("source", filter="data")
    with open("commit", "w") as file:
        file.write(archive.pax_headers["comment"])
FETCH

export PYTHONPATH=$home/source/lib TRAJVIT_COMMIT
TRAJVIT_COMMIT=$(cat commit)
"$python" -m trajvit.running.machine "$PLACE" parameters.yaml \
    --log machine.log --seconds $((MINUTES * 60 - SECONDS)) $install
