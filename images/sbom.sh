#!/bin/sh
# sbom.sh NAME: the image's bill of materials (CycloneDX), of Debian's packages and Python's, as /sbom.cdx.json.
# The same packages give the same bytes, so that the layer stays what it is.
set -eu
cd "$(mktemp -d)"
bom() { # a command of debsbom, then its arguments
    /tools/bin/debsbom "$@" --sbom-type cdx --timestamp 1970-01-01T00:00:00+00:00 \
        --cdx-serialnumber 00000000-0000-4000-8000-000000000000
}
bom generate --distro-name debian --out debian.cdx.json
/tools/bin/python -W ignore /tools/bin/cyclonedx-py environment --output-reproducible --pyproject /src/pyproject.toml \
    --output-file python.cdx.json /opt/levada/bin/python
bom merge --distro-name "$1" --out /sbom.cdx.json debian.cdx.json python.cdx.json
