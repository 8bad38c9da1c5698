{{/* Labels of every object; the argument is a list: the root, and the component's name. */}}
{{- define "levada.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/part-of: levada
{{ include "levada.selector" . }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels by which the pods of a component are chosen; as above. */}}
{{- define "levada.selector" -}}
app.kubernetes.io/name: levada
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Labels of pods: nothing that changes with a version, so that an upgrade of the chart restarts no store. */}}
{{- define "levada.podLabels" -}}
{{ include "levada.selector" . }}
app.kubernetes.io/part-of: levada
{{- with (index . 0).Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Metadata of an object: a list of the root, the component, the name, and the namespace ("" where there is none). */}}
{{- define "levada.metadata" -}}
{{- $root := index . 0 -}}
name: {{ index . 2 }}
{{- with index . 3 }}
namespace: {{ . }}
{{- end }}
labels:
  {{- include "levada.labels" . | nindent 2 }}
{{- end }}

{{/* commonAnnotations and others as one block; a list of the root and a dictionary. */}}
{{- define "levada.annotations" -}}
{{- $all := merge (dict) (index . 1) (index . 0).Values.commonAnnotations -}}
{{- with $all }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Image of one of Levada's own programs: a list of the root, the name, and a whole reference that replaces it. */}}
{{- define "levada.image" -}}
{{- $root := index . 0 -}}
{{- $tag := $root.Values.image.tag | default $root.Chart.AppVersion -}}
{{- index . 2 | default (printf "%s/%s:%s" $root.Values.image.registry (index . 1) $tag) -}}
{{- end }}

{{/* Namespaces in which steps and scorers run, as a JSON list. */}}
{{- define "levada.workloadNamespaces" -}}
{{- $chosen := .Values.namespaces | default .Values.workloadNamespaces -}}
{{- $chosen | default (list .Release.Namespace) | uniq | sortAlpha | toJson -}}
{{- end }}

{{/* The Secret of the bundled stores, and of those of the user's that have none of their own; empty if there are none. */}}
{{- define "levada.storesSecret" -}}
{{- $v := .Values -}}
{{- $made := or $v.minio.enabled $v.postgres.enabled $v.nats.enabled | ternary "levada-stores" "" -}}
{{- $v.stores.existingSecret | default $made -}}
{{- end }}

{{/* All Secrets with settings of stores, as a JSON list: where two say the same thing, the later one is heard. */}}
{{- define "levada.storesSecrets" -}}
{{- $v := .Values -}}
{{- $common := include "levada.storesSecret" . -}}
{{- list $common $v.minio.existingSecret $v.postgres.existingSecret $v.nats.existingSecret | compact | uniq | toJson -}}
{{- end }}

{{/* These, as the environment of a container. */}}
{{- define "levada.storesEnvFrom" -}}
{{- range include "levada.storesSecrets" . | fromJsonArray }}
- secretRef: {name: {{ . }}}
{{- end }}
{{- end }}

{{/* The Secret by which KServe reads models. */}}
{{- define "levada.modelsSecret" -}}
{{- .Values.models.existingSecret | default "levada-models" -}}
{{- end }}

{{/* Security of a pod as restricted Pod Security asks; the argument is the user. */}}
{{- define "levada.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . | int64 }}
runAsGroup: {{ . | int64 }}
fsGroup: {{ . | int64 }}
# Once: what Postgres keeps may not become readable for a group.
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}
{{- define "levada.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Where the pods of a component may run: its values. */}}
{{- define "levada.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Whether a cluster was asked what it serves: `helm template` knows only built-in APIs, without the aggregator's. */}}
{{- define "levada.isLive" -}}
{{- if .Capabilities.APIVersions.Has "apiregistration.k8s.io/v1" }}true{{ end -}}
{{- end }}

{{/* What no schema can say. */}}
{{- define "levada.validate" -}}
{{- $v := .Values -}}
{{- if and $v.namespaces $v.workloadNamespaces }}
{{- fail "workloadNamespaces: with namespaces set, steps and scorers run in exactly these; leave workloadNamespaces out" }}
{{- end }}
{{- range $store := list "minio" "postgres" "nats" }}
{{- $own := (index $v $store).existingSecret }}
{{- if and (index $v $store).enabled $own }}
{{- fail (printf "%s.existingSecret is for a store of your own: set %s.enabled to false, or name the Secret of the bundled one in stores.existingSecret" $store $store) }}
{{- end }}
{{- if not (or (index $v $store).enabled $own $v.stores.existingSecret) }}
{{- fail (printf "%s.enabled is false: name a Secret that says where your own is in %s.existingSecret, or one for all stores in stores.existingSecret (docs/install.md says what is in it)" $store $store) }}
{{- end }}
{{- end }}
{{- range $given := list "minio" "stores" }}
{{- if and (index $v $given).existingSecret (not $v.models.existingSecret) }}
{{- fail (printf "models.existingSecret: with %s.existingSecret set, name the Secret by which KServe reads models, too (docs/install.md says what is in both)" $given) }}
{{- end }}
{{- end }}
{{- if and $v.models.existingSecret (not (or $v.minio.existingSecret $v.stores.existingSecret)) }}
{{- fail "stores.existingSecret: with models.existingSecret set, name the Secret of the object store, too (docs/install.md says what is in both); or minio.existingSecret, with minio.enabled set to false" }}
{{- end }}
{{- if and $v.servingRuntime.enabled (include "levada.isLive" .) (not (.Capabilities.APIVersions.Has "serving.kserve.io/v1beta1")) }}
{{- fail "KServe is not installed in this cluster: install it first, or set servingRuntime.enabled to false to go without serving" }}
{{- end }}
{{- end }}
