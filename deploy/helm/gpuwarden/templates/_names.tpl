{{- define "gpuwarden.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "gpuwarden.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "gpuwarden.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "gpuwarden.selectorLabels" -}}
app.kubernetes.io/name: {{ include "gpuwarden.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "gpuwarden.labels" -}}
{{ include "gpuwarden.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "gpuwarden.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "gpuwarden.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "gpuwarden.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "gpuwarden.rulesConfigMap" -}}
{{- default (printf "%s-rules" (include "gpuwarden.fullname" .)) .Values.rules.existingConfigMap -}}
{{- end -}}

{{/* Combinations that each pass the schema and cannot work together. */}}
{{- define "gpuwarden.refuse" -}}
{{- if and (eq .Values.gpu.mode "hostLibrary") (not .Values.privilege.privileged) -}}
{{- fail "gpu.mode=hostLibrary needs privilege.privileged=true: without it the node's device rules deny /dev/nvidiactl. Use gpu.mode=runtimeClass to stay unprivileged" -}}
{{- end -}}
{{- if not (hasSuffix (printf ":%v" .Values.telemetry.port) .Values.config.telemetry.listen) -}}
{{- fail (printf "telemetry.port is %v, but config.telemetry.listen is %q: probes and scrapes would miss it. Set both to the same port" .Values.telemetry.port .Values.config.telemetry.listen) -}}
{{- end -}}
{{- if eq (toString .Values.config.telemetry.enabled) "false" -}}
{{- fail "config.telemetry.enabled is false: the probes would kill every pod, because /livez is served there" -}}
{{- end -}}
{{- if and .Values.telemetry.serviceMonitor.enabled .Values.telemetry.podMonitor.enabled -}}
{{- fail "telemetry.serviceMonitor and telemetry.podMonitor are both enabled: every sample would be scraped twice. Enable one" -}}
{{- end -}}
{{- if and .Values.telemetry.serviceMonitor.enabled (not .Values.telemetry.service.enabled) -}}
{{- fail "telemetry.serviceMonitor selects the service, which telemetry.service.enabled=false leaves out. Enable it or use telemetry.podMonitor" -}}
{{- end -}}
{{- if and .Values.rules.files .Values.rules.existingConfigMap -}}
{{- fail "rules.files and rules.existingConfigMap are both set, and only one can be mounted. Choose one" -}}
{{- end -}}
{{- end -}}
