{{/* Names. Every object is <fullname> or <fullname>-<component>. */}}
{{- define "fairway.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "fairway.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "fairway.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "fairway.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* A name for what two releases of one name in two namespaces would both call their own. */}}
{{- define "fairway.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "fairway.fullname" .) -}}
{{- end -}}

{{/* A name of the whole cluster that has to be a DNS name. */}}
{{- define "fairway.webhookConfiguration" -}}
{{- printf "%s.%s" (include "fairway.fullname" .) .Release.Namespace -}}
{{- end -}}

{{- define "fairway.operatorAccount" -}}
{{- with .Values.operator.serviceAccount -}}
{{- if .create -}}{{ .name | default (printf "%s-operator" (include "fairway.fullname" $)) }}
{{- else -}}{{ .name | default "default" }}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "fairway.dataplaneAccount" -}}
{{- with .Values.dataplane.serviceAccount -}}
{{- if .create -}}{{ .name | default (printf "%s-dataplane" (include "fairway.fullname" $)) }}
{{- else -}}{{ .name | default "default" }}{{- end -}}
{{- end -}}
{{- end -}}

{{/* Where addresses for the status of Ingresses come from; empty is nowhere. */}}
{{- define "fairway.publishedBy" -}}
{{- if .Values.publish.addresses -}}addresses
{{- else if .Values.publish.nodeLabels -}}nodes
{{- else if and .Values.publish.service .Values.dataplane.service.enabled -}}service
{{- end -}}
{{- end -}}

{{/* Not empty when the operator has business with anything that belongs to no watched namespace. */}}
{{- define "fairway.clusterRole" -}}
{{- $nodes := eq (include "fairway.publishedBy" .) "nodes" -}}
{{- if or (not .Values.operator.watchNamespaces) .Values.ingressClass.create .Values.webhook.enabled $nodes -}}
true
{{- end -}}
{{- end -}}

{{- define "fairway.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}
{{- else -}}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels of an object. The argument: root, component or "", own labels; the chart's stand above those. */}}
{{- define "fairway.labels" -}}
{{- $root := first . -}}
{{- $chart := dict
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_")
  "app.kubernetes.io/version" $root.Chart.AppVersion
  "app.kubernetes.io/managed-by" $root.Release.Service
  "app.kubernetes.io/part-of" "fairway" -}}
{{- toYaml (merge $chart (include "fairway.podLabels" . | fromYaml)) -}}
{{- end -}}

{{/* Of pods without the chart's version: a new chart alone restarts nothing. The same argument. */}}
{{- define "fairway.podLabels" -}}
{{- $selector := include "fairway.selector" (list (first .) (index . 1)) | fromYaml -}}
{{- toYaml (merge $selector (index . 2) (first .).Values.commonLabels) -}}
{{- end -}}

{{- define "fairway.selector" -}}
{{- $root := first . -}}
app.kubernetes.io/name: {{ include "fairway.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
{{- with last . }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* Labels and annotations of an object. The argument: root, component, own annotations, own labels. */}}
{{- define "fairway.metadata" -}}
{{- $root := index . 0 -}}
labels:
  {{- include "fairway.labels" (list $root (index . 1) (index . 3)) | nindent 2 }}
{{- with merge (dict) (index . 2) $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
Settings as environment variables: camelCase becomes FAIRWAY__CAMEL_CASE, and a group that
nests becomes FAIRWAY__GROUP__CAMEL_CASE. The argument: prefix, settings.
*/}}
{{- define "fairway.settings" -}}
{{- $prefix := first . -}}
{{- range $key, $value := last . }}
{{- $name := printf "%s__%s" $prefix (regexReplaceAll "([A-Z])" $key "_${1}" | upper) }}
{{- if kindIs "map" $value }}
{{ include "fairway.settings" (list $name $value) | trim }}
{{- else }}
- name: {{ $name }}
  value: {{ include "fairway.text" $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A value as text. Helm reads each number as a float and would print 1e+07. */}}
{{- define "fairway.text" -}}
{{- if kindIs "slice" . -}}{{ join "," . }}
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}
{{- else -}}{{ toString . }}{{- end -}}
{{- end -}}

{{- define "fairway.podSecurity" -}}
{{ toYaml .Values.podSecurityContext }}
{{- end -}}

{{- define "fairway.containerSecurity" -}}
{{ toYaml .Values.securityContext }}
{{- end -}}

{{/* Where pods may and should run. The argument: root, component, its values. */}}
{{- define "fairway.placement" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- with index . 2 }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- if .topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml .topologySpreadConstraints | nindent 2 }}
{{- else if ne (.kind | default "Deployment") "DaemonSet" }}
topologySpreadConstraints:
  {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "fairway.selector" (list $root $component) | nindent 8 }}
    # A new revision is spread by itself, not against the old one that it replaces.
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}
