// Pins the Argo CD whose definitions the example repository is checked against; nothing of it is built.
module levada.dev/tools/argocd

go 1.26.3

require github.com/argoproj/argo-cd/v3 v3.5.7
