#!/bin/sh
# Resolve pyproject.toml into constraints/: one resolution for everything, and from it what each use installs.
# Pinned with hashes for Python 3.11 to 3.13 on every platform, without the address of any index.
set -eu
cd "$(dirname "$0")/.."

resolve() { # output, then what selects the requirements
    output=$1
    shift
    "$UV" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links "$@" --output-file "constraints/$output" > /dev/null
}
within() { resolve "$@" --constraints constraints/all.txt; }

resolve all.txt pyproject.toml --all-extras --group build --group dev --group go --group storage --group sbom --upgrade
set -- pyproject.toml --extra steps --extra serving --extra local --extra examples --group build
within demo.txt "$@"
within dev.txt "$@" --extra operator --extra kserve --group dev
within go.txt --group go
# What the images install, each its own; what builds Levada's wheel in them, and their bills of materials.
within operator.txt pyproject.toml --extra operator --extra kserve
within steps.txt pyproject.toml --extra steps
within serving.txt pyproject.toml --extra serving
within storage.txt --group storage
within build.txt --group build --group sbom
echo uv | resolve uv.txt - --upgrade
