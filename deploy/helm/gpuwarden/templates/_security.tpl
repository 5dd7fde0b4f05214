{{/*
The container's security context. Root, because tracefs, the BPF filesystem and the kubelet's
sockets belong to root; but a root without the capabilities that make root dangerous.
*/}}
{{- define "gpuwarden.capabilities" -}}
{{- $names := dict "bpf" "BPF" "perfmon" "PERFMON" "netAdmin" "NET_ADMIN"
    "sysResource" "SYS_RESOURCE" "sysPtrace" "SYS_PTRACE" "dacReadSearch" "DAC_READ_SEARCH"
    "sysAdmin" "SYS_ADMIN" "syslog" "SYSLOG" "kill" "KILL" -}}
{{- $wanted := list -}}
{{- range $key, $enabled := .Values.privilege.capabilities -}}
{{- if $enabled }}{{ $wanted = append $wanted (get $names $key) }}{{ end -}}
{{- end -}}
{{- toYaml (concat $wanted .Values.privilege.extraCapabilities | uniq | sortAlpha) -}}
{{- end -}}

{{- define "gpuwarden.profile" -}}
type: {{ .type }}
{{- if eq .type "Localhost" }}
localhostProfile: {{ required "a profile of type Localhost needs localhostProfile" .localhostProfile }}
{{- end }}
{{- end -}}

{{- define "gpuwarden.securityContext" -}}
runAsUser: 0
runAsGroup: 0
readOnlyRootFilesystem: true
{{- if .Values.privilege.privileged }}
privileged: true
{{- else }}
privileged: false
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
  add:
    {{- include "gpuwarden.capabilities" . | nindent 4 }}
seccompProfile:
  {{- include "gpuwarden.profile" .Values.privilege.seccompProfile | nindent 2 }}
{{- if semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version }}
appArmorProfile:
  {{- include "gpuwarden.profile" .Values.privilege.appArmorProfile | nindent 2 }}
{{- end }}
{{- end }}
{{- with .Values.privilege.seLinuxOptions }}
seLinuxOptions:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Before 1.30 AppArmor was an annotation of the pod. */}}
{{- define "gpuwarden.appArmorAnnotation" -}}
{{- $profile := .Values.privilege.appArmorProfile -}}
{{- if and (not .Values.privilege.privileged)
      (semverCompare "<1.30.0-0" .Capabilities.KubeVersion.Version) -}}
container.apparmor.security.beta.kubernetes.io/gpuwarden: {{ if eq $profile.type "Unconfined" -}}
unconfined
{{- else if eq $profile.type "RuntimeDefault" -}}
runtime/default
{{- else -}}
localhost/{{ required "a profile of type Localhost needs localhostProfile" $profile.localhostProfile }}
{{- end -}}
{{- end -}}
{{- end -}}
