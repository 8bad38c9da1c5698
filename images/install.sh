#!/bin/sh
# install.sh CONSTRAINTS [PATTERN …]: what one image needs, into /opt/levada, an environment without pip.
# Left out are packages' own tests, what only compilers and editors read, and what the patterns name: files that
# nothing in the image would load.
set -eu
constraints=$1
shift
python3 -m venv --without-pip /opt/levada
/tools/bin/pip --python /opt/levada/bin/python install --quiet --require-hashes -r "$constraints"
find /opt/levada -type d \( -name tests -o -name SelfTest \) -prune -exec rm -r {} +
find /opt/levada -type f \( -name '*.py[ix]' -o -name '*.px[di]' -o -name '*.h' -o -name '*.a' \) -delete
for pattern in "$@"; do
    find /opt/levada -path "*/site-packages/$pattern" -prune -exec rm -r {} +
done
