// The program of a pod's sandbox; built by ../build.py.
module levada.dev/tools/pause

go 1.26.0
