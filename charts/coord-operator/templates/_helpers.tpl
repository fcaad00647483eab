{{- define "coord-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "coord-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "coord-operator.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "coord-operator.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "coord-operator.selector" -}}
app.kubernetes.io/name: {{ include "coord-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "coord-operator.labels" -}}
{{ include "coord-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "coord-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "coord-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "coord-operator.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* What the operator does in a namespace with CoordClusters. */}}
{{- define "coord-operator.rules" -}}
- apiGroups: [coord.dev]
  resources: [coordclusters]
  verbs: [get, list, watch]
- apiGroups: [coord.dev]
  resources: [coordclusters/status]
  verbs: [update, patch]
- apiGroups: [coord.dev]
  resources: [coordclusters/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, create, patch]
# A budget in which somebody set maxUnavailable is replaced: an apply would only add to it.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, update, delete]
# Labels on running pods; restarts of outdated ones.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch, delete]
# Restarts of members that serve: an eviction is counted against the disruption budget.
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
# Disks of new members; marks on them; disks of members that were removed.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
# Why a pod was refused, or a disk not mounted: Kubernetes says it nowhere else.
- apiGroups: [""]
  resources: [events]
  verbs: [list]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
